package datasets

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Info describes a set: counts, tokens, hashes.
type Info struct {
	Name              string         `json:"name"`
	Path              string         `json:"path"`
	Format            string         `json:"format"`
	Samples           int            `json:"samples"`
	SHA256            string         `json:"sha256"`
	ContentSHA256     string         `json:"content_sha256"`
	Bytes             int64          `json:"bytes"`
	ContentBytes      int64          `json:"content_bytes"`
	PromptTokens      TokenStats     `json:"prompt_tokens"`
	TargetTokens      TokenStats     `json:"target_tokens"`
	TotalTokens       TokenStats     `json:"total_tokens"`
	SharedPrefixShare float64        `json:"shared_prefix_share"`
	IdenticalPrompts  int            `json:"identical_prompts"`
	Kinds             map[string]int `json:"kinds,omitempty"`
	Tokenizer         TokenizerInfo  `json:"tokenizer"`
	Manifest          *Manifest      `json:"manifest,omitempty"`
	Warnings          []Fault        `json:"warnings,omitempty"`
}

// Info describes the set.
func (s *Set) Info() *Info {
	i := &Info{
		Name: s.Name, Path: s.Path, Format: s.Format, Samples: len(s.Samples),
		SHA256: s.SHA256, ContentSHA256: s.ContentSHA256, Bytes: s.Bytes, ContentBytes: s.ContentBytes,
		SharedPrefixShare: s.sharedPrefix, IdenticalPrompts: s.identical,
		Tokenizer: s.Tokenizer, Manifest: s.Manifest, Warnings: s.Warnings,
	}
	var prompt, target, total statsBuilder
	for k := range s.Samples {
		x := &s.Samples[k]
		prompt.add(int64(x.PromptTokens), x.PromptTokensEstimated)
		target.add(int64(x.TargetTokens), x.TargetTokensEstimated)
		if x.PromptTokens > 0 && x.TargetTokens > 0 {
			total.add(int64(x.PromptTokens+x.TargetTokens), x.PromptTokensEstimated || x.TargetTokensEstimated)
		}
		if x.Kind != "" {
			if i.Kinds == nil {
				i.Kinds = map[string]int{}
			}
			i.Kinds[x.Kind]++
		}
	}
	i.PromptTokens, i.TargetTokens, i.TotalTokens = prompt.stats(), target.stats(), total.stats()
	return i
}

// Text is the description for a person: a few lines and a small histogram.
func (i *Info) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s samples, %s\n", i.Name, Thousands(int64(i.Samples)), i.Path)
	fmt.Fprintf(&b, "  format           %s; %s bytes, expanded %s\n", i.Format, Thousands(i.Bytes), Thousands(i.ContentBytes))
	fmt.Fprintf(&b, "  sha256           %s\n", i.SHA256)
	if i.ContentSHA256 != "" {
		fmt.Fprintf(&b, "  of the content   %s\n", i.ContentSHA256)
	}
	if len(i.Kinds) > 0 {
		var parts []string
		for k, n := range i.Kinds {
			parts = append(parts, fmt.Sprintf("%s %d", k, n))
		}
		slices.Sort(parts)
		fmt.Fprintf(&b, "  kinds            %s\n", strings.Join(parts, ", "))
	}
	if g := generator(i.Manifest); g != nil {
		fmt.Fprintf(&b, "  generated        %s, seed %d, from %s\n", g.Kind, g.Seed, sourceText(g))
	}
	fmt.Fprintf(&b, "  tokens counted   by %s\n", i.Tokenizer.text())
	i.PromptTokens.text(&b, "prompt tokens")
	i.TargetTokens.text(&b, "target tokens")
	i.TotalTokens.text(&b, "total tokens")
	fmt.Fprintf(&b, "  shared prefix    %.1f %% of prompt tokens, in blocks of %d\n", 100*i.SharedPrefixShare, BlockTokens)
	for _, w := range i.Warnings {
		fmt.Fprintf(&b, "  warning          %s: %s\n", w.What, w.Do)
	}
	return b.String()
}

func generator(m *Manifest) *GeneratorInfo {
	if m == nil {
		return nil
	}
	return m.Generator
}

func sourceText(g *GeneratorInfo) string {
	if g.Source == "files" {
		return fmt.Sprintf("%s text files", Thousands(int64(g.SourceFiles)))
	}
	return "synthetic text"
}

// text names what counted, for a person.
func (t TokenizerInfo) text() string {
	if t.Kind == "estimate" {
		return "the file where it says so, else estimated (" + t.Calibration + ")"
	}
	return t.Kind + " " + clip(t.SHA256, 12)
}

// barWidth is the longest bar of a histogram, in characters.
const barWidth = 40

// text writes the figures, and a histogram if there is more than one value.
func (s TokenStats) text(b *strings.Builder, title string) {
	label := fmt.Sprintf("  %-16s ", title)
	switch {
	case s.Count == 0:
		fmt.Fprintf(b, "%snot known\n", label)
		return
	case s.Min == s.Max:
		fmt.Fprintf(b, "%s%s each, %s in all", label, Thousands(s.Min), Thousands(s.Total))
	default:
		fmt.Fprintf(b, "%smin %s, median %s, mean %s, p90 %s, max %s; %s in all", label,
			Thousands(s.Min), Thousands(s.P50), Thousands(int64(s.Mean+0.5)), Thousands(s.P90), Thousands(s.Max), Thousands(s.Total))
	}
	if s.Estimated > 0 {
		fmt.Fprintf(b, " (%s estimated)", Thousands(s.Estimated))
	}
	if s.Missing > 0 {
		fmt.Fprintf(b, " (%s samples without)", Thousands(s.Missing))
	}
	b.WriteByte('\n')
	if len(s.Histogram) < 2 {
		return
	}
	most := int64(1)
	for _, h := range s.Histogram {
		most = max(most, h.Count)
	}
	for _, h := range s.Histogram {
		bar := int((h.Count*barWidth + most - 1) / most)
		fmt.Fprintf(b, "    %9s - %-9s %s %s\n", Thousands(h.From), Thousands(h.To), strings.Repeat("#", bar), Thousands(h.Count))
	}
}

// Thousands writes a number with commas: 48,000.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// PlanTable is the experiment plan's table of data sets, in Markdown, with the
// means that were found.
func PlanTable(infos []*Info) string {
	var b strings.Builder
	b.WriteString("| Dataset | Samples | Prompt Tokens | Target Response | Total Seq Len |\n|---------|---------|---------------|-----------------|---------------|\n")
	for _, i := range infos {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", strings.ReplaceAll(i.Name, "|", `\|`), i.Samples, i.PromptTokens.mean(), i.TargetTokens.mean(), i.TotalTokens.mean())
	}
	return b.String()
}

// mean is the mean as a table shows it.
func (s TokenStats) mean() string {
	if s.Count == 0 {
		return "-"
	}
	mark := ""
	if s.Estimated > 0 || s.Min != s.Max {
		mark = "~"
	}
	return mark + Thousands(int64(s.Mean+0.5))
}
