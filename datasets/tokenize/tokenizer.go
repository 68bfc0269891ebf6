package tokenize

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/text/unicode/norm"
)

// Tokenizer is a byte-level BPE tokenizer as a model's tokenizer.json
// describes it. It gives the ids that the reference implementation gives
// (HF tokenizers; docs/datasets.md, "Tokenizer", says how that is checked).
//
// It is safe for use by several goroutines.
type Tokenizer struct {
	// SHA256 of tokenizer.json, in hex.
	SHA256 string
	// AddedSpecialTokens is how many special tokens the post-processor puts
	// around one text, which CountTokens does not count: vLLM's
	// usage.prompt_tokens of /v1/completions has them.
	AddedSpecialTokens int

	nfc         bool
	prefixSpace bool
	steps       []step
	model       bpe
	raw         addedSet // looked for before normalization
	normalized  addedSet // and after it
	states      sync.Pool
}

// UnsupportedError says that a tokenizer.json uses something that is not
// written here.
type UnsupportedError struct {
	// Part of the file ("pre_tokenizer").
	Part string
	// What it asks for.
	What string
}

// Error says what is not supported.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not supported; tokens are then estimated", e.Part, e.What)
}

// FileName is the name of a tokenizer's file in a model folder.
const FileName = "tokenizer.json"

// maxFileBytes is several times the largest tokenizer.json there is.
const maxFileBytes = 256 << 20

// Load reads a tokenizer from a model folder or from its tokenizer.json.
// A file of another kind than byte-level BPE is *UnsupportedError.
func Load(path string) (*Tokenizer, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, FileName)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokenizer: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the tokenizer: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s: is larger than %d MiB: not a tokenizer", path, maxFileBytes>>20)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// file is the part of tokenizer.json that is understood.
type file struct {
	AddedTokens []struct {
		ID         int32  `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	} `json:"added_tokens"`
	Normalizer    *component `json:"normalizer"`
	PreTokenizer  *component `json:"pre_tokenizer"`
	PostProcessor *component `json:"post_processor"`
	Model         struct {
		Type                    string           `json:"type"`
		Vocab                   map[string]int32 `json:"vocab"`
		Merges                  []mergePair      `json:"merges"`
		Dropout                 *float64         `json:"dropout"`
		UnkToken                *string          `json:"unk_token"`
		ContinuingSubwordPrefix *string          `json:"continuing_subword_prefix"`
		EndOfWordSuffix         *string          `json:"end_of_word_suffix"`
		ByteFallback            bool             `json:"byte_fallback"`
		IgnoreMerges            bool             `json:"ignore_merges"`
	} `json:"model"`
}

// component is a normalizer, pre-tokenizer or post-processor.
type component struct {
	Type             string      `json:"type"`
	Normalizers      []component `json:"normalizers"`
	Pretokenizers    []component `json:"pretokenizers"`
	Processors       []component `json:"processors"`
	AddPrefixSpace   *bool       `json:"add_prefix_space"`
	UseRegex         *bool       `json:"use_regex"`
	Behavior         string      `json:"behavior"`
	Invert           bool        `json:"invert"`
	IndividualDigits bool        `json:"individual_digits"`
	Pattern          struct {
		Regex  *string `json:"Regex"`
		String *string `json:"String"`
	} `json:"pattern"`
	Single []struct {
		SpecialToken *struct{} `json:"SpecialToken"`
	} `json:"single"`
}

// mergePair is a merge, written as "a b" or ["a","b"].
type mergePair [2]string

// UnmarshalJSON reads both ways of writing a merge.
func (m *mergePair) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var pair []string
		if err := json.Unmarshal(b, &pair); err != nil {
			return err
		}
		if len(pair) != 2 {
			return fmt.Errorf("merge of %d parts", len(pair))
		}
		m[0], m[1] = pair[0], pair[1]
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	left, right, ok := strings.Cut(s, " ")
	if !ok {
		return fmt.Errorf("merge %.40q has no space", s)
	}
	m[0], m[1] = left, right
	return nil
}

// Parse reads the content of a tokenizer.json.
func Parse(data []byte) (*Tokenizer, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("not a tokenizer.json: %w", err)
	}
	sum := sha256.Sum256(data)
	t := &Tokenizer{SHA256: hex.EncodeToString(sum[:])}
	if err := t.setNormalizer(f.Normalizer); err != nil {
		return nil, err
	}
	if err := t.setPreTokenizer(f.PreTokenizer); err != nil {
		return nil, err
	}
	if err := t.setModel(&f); err != nil {
		return nil, err
	}
	t.countAdded(f.PostProcessor)
	for _, a := range f.AddedTokens {
		if a.Content == "" {
			continue
		}
		tok := added{content: a.Content, id: a.ID, single: a.SingleWord, lstrip: a.LStrip, rstrip: a.RStrip}
		if a.Normalized && !a.Special {
			if t.nfc {
				tok.content = norm.NFC.String(tok.content)
			}
			t.normalized.add(tok)
		} else if a.Normalized {
			t.normalized.add(tok)
		} else {
			t.raw.add(tok)
		}
	}
	t.raw.finish()
	t.normalized.finish()
	t.states.New = func() any { return newState() }
	return t, nil
}

func (t *Tokenizer) setNormalizer(c *component) error {
	if c == nil {
		return nil
	}
	switch c.Type {
	case "NFC":
		t.nfc = true
		return nil
	case "Sequence":
		for i := range c.Normalizers {
			if err := t.setNormalizer(&c.Normalizers[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return &UnsupportedError{"normalizer", c.Type}
}

func (t *Tokenizer) setPreTokenizer(c *component) error {
	if c == nil {
		return &UnsupportedError{"pre_tokenizer", "none (byte-level BPE has one)"}
	}
	parts := []component{*c}
	if c.Type == "Sequence" {
		parts = c.Pretokenizers
	}
	for i := range parts {
		if i > 0 && parts[i-1].Type == "ByteLevel" {
			return &UnsupportedError{"pre_tokenizer", parts[i].Type + " after ByteLevel"}
		}
		if err := t.addStep(&parts[i], i); err != nil {
			return err
		}
	}
	if len(parts) == 0 || parts[len(parts)-1].Type != "ByteLevel" {
		return &UnsupportedError{"pre_tokenizer", "one without ByteLevel"}
	}
	return nil
}

func (t *Tokenizer) addStep(c *component, at int) error {
	switch c.Type {
	case "ByteLevel":
		// Both default to true.
		if c.AddPrefixSpace == nil || *c.AddPrefixSpace {
			if at > 0 {
				return &UnsupportedError{"pre_tokenizer", "add_prefix_space after another step"}
			}
			t.prefixSpace = true
		}
		if c.UseRegex == nil || *c.UseRegex {
			t.steps = append(t.steps, step{next: nextGPT2})
		}
		return nil
	case "Digits":
		t.steps = append(t.steps, digitsStep(c.IndividualDigits))
		return nil
	case "Split":
		// What lies between the matches is a piece of its own, or (Removed and
		// inverted) the matches are the pieces: the same where the pattern
		// leaves nothing out, as those written by hand do.
		isolated := c.Behavior == "Isolated"
		inverted := c.Behavior == "Removed" && c.Invert
		if c.Pattern.Regex == nil {
			return &UnsupportedError{"pre_tokenizer", "Split by a fixed string"}
		}
		s, byHand, err := patternStep(*c.Pattern.Regex)
		if err != nil {
			return &UnsupportedError{"pre_tokenizer", fmt.Sprintf("the pattern %.60q (%v)", *c.Pattern.Regex, err)}
		}
		if !isolated && !(inverted && byHand) {
			return &UnsupportedError{"pre_tokenizer", fmt.Sprintf("Split with behavior %s, invert %v", c.Behavior, c.Invert)}
		}
		t.steps = append(t.steps, s)
		return nil
	}
	return &UnsupportedError{"pre_tokenizer", c.Type}
}

func (t *Tokenizer) setModel(f *file) error {
	m := &f.Model
	set := func(s *string) bool { return s != nil && *s != "" }
	switch {
	case m.Type != "BPE" && !(m.Type == "" && len(m.Merges) > 0):
		return &UnsupportedError{"model", fmt.Sprintf("type %.40q", m.Type)}
	case m.Dropout != nil && *m.Dropout != 0:
		return &UnsupportedError{"model", "dropout"}
	case set(m.ContinuingSubwordPrefix) || set(m.EndOfWordSuffix):
		return &UnsupportedError{"model", "a prefix or suffix of words"}
	case m.ByteFallback:
		return &UnsupportedError{"model", "byte_fallback"}
	}
	return t.model.build(m.Vocab, m.Merges, m.IgnoreMerges)
}

// countAdded counts the special tokens that the post-processor adds.
func (t *Tokenizer) countAdded(c *component) {
	if c == nil {
		return
	}
	for i := range c.Processors {
		t.countAdded(&c.Processors[i])
	}
	if c.Type == "TemplateProcessing" {
		for _, s := range c.Single {
			if s.SpecialToken != nil {
				t.AddedSpecialTokens++
			}
		}
	}
}

// byteChars are the characters that stand for the 256 bytes in a byte-level
// vocabulary: the printable ones of Latin-1 for themselves, the others moved
// to U+0100 and on.
var byteChars = func() (t [256]rune) {
	next := rune(0x100)
	for b := range t {
		r := rune(b)
		if r >= '!' && r <= '~' || r >= 0xA1 && r <= 0xAC || r >= 0xAE && r <= 0xFF {
			t[b] = r
			continue
		}
		t[b] = next
		next++
	}
	return t
}()

// charBytes is the way back; -1 for characters that stand for no byte.
func charByte(r rune) int {
	if r < 0x100 && byteChars[r] == r {
		return int(r)
	}
	for b, c := range byteChars {
		if c == r {
			return b
		}
	}
	return -1
}

var errNoVocab = errors.New("not a tokenizer.json: the model has no vocabulary")
