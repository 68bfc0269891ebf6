package pbsgen

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/agext/levenshtein"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// validate reports all faults of a profile, by field.
func (p Profile) validate() []Fault {
	v := validator{}
	v.identity(p)
	v.resources(p)
	v.walltime(p)
	v.directives(p)
	v.software(p)
	v.paths(p)
	return v.faults
}

type validator struct{ faults []Fault }

func (v *validator) fault(field, do, what string, args ...any) {
	v.faults = append(v.faults, Fault{Field: field, What: fmt.Sprintf(what, args...), Do: do})
}

// directiveValue refuses what no directive can hold.
func (v *validator) directiveValue(field, value string) {
	if _, ok := pbs.Quote(value); !ok {
		v.fault(field, "remove control characters, mixed quotes and a trailing backslash", "%q cannot be written in a PBS directive", value)
	}
}

// text refuses control characters, which have no business in a script.
func (v *validator) text(field, value string) {
	if strings.IndexFunc(value, unicode.IsControl) >= 0 {
		v.fault(field, "remove them", "%q holds control characters", value)
	}
}

func (v *validator) identity(p Profile) {
	v.text("name", p.Name)
	v.text("description", p.Description)
	for field, value := range map[string]string{"project": p.Project, "account": p.Account, "group_list": p.GroupList, "queue": p.Queue} {
		if value == "" {
			continue
		}
		v.directiveValue(field, value)
		if strings.ContainsFunc(value, unicode.IsSpace) {
			v.fault(field, "remove them", "%q holds spaces", value)
		}
	}
	if p.Queue != "" {
		if _, err := pbs.Merge([]pbs.Setting{{Option: 'q', Value: p.Queue}}, nil); err != nil {
			v.fault("queue", fmt.Sprintf("a queue name has at most %d characters", pbs.MaxQueueBytes), "%q is not a queue", p.Queue)
		}
	}
	if strings.Contains(p.Project, "/") {
		v.fault("project", "", "%q holds a slash, which PBS refuses", p.Project)
	}
	if strings.Contains(p.GroupList, ",") {
		v.fault("group_list", "name one group", "%q holds a comma, which would begin another -W keyword", p.GroupList)
	}
	for i, field := range p.Requires {
		if !slices.Contains([]string{"project", "account", "group_list", "queue", "model"}, field) {
			v.fault(fmt.Sprintf("requires[%d]", i), "use project, account, group_list, queue or model", "%q cannot be required", field)
		}
	}
	slices.SortStableFunc(v.faults, func(a, b Fault) int { return strings.Compare(a.Field, b.Field) })
}

// resources checks that GPUs, cores and memory are asked for in one of the two
// forms, or named as fixed by the queue.
func (v *validator) resources(p Profile) {
	if p.Select == "" && len(p.Resources) == 0 {
		v.fault("select", `write select: "1:ncpus=96:ngpus=8:mem=1900gb" with your node's figures, or resources: for a site without select`, "no resources are asked for")
		return
	}
	if p.Select != "" && len(p.Resources) > 0 {
		v.fault("resources", "keep one: PBS refuses both together", "select is given too")
	}
	asked := map[string]bool{}
	if p.Select != "" {
		v.directiveValue("select", p.Select)
		chunks, err := pbs.ParseSelect(p.Select)
		if err != nil || strings.ContainsAny(p.Select, " \t,'\"") {
			v.fault("select", `want COUNT:ncpus=..:ngpus=..:mem=..`, "qsub would refuse %q", p.Select)
			return
		}
		for _, chunk := range chunks {
			for _, r := range chunk.Resources {
				asked[r.Name] = true
				v.memory("select", r.Name, r.Value)
			}
		}
	}
	for i, item := range p.Resources {
		field := fmt.Sprintf("resources[%d]", i)
		name, value, ok := strings.Cut(item, "=")
		if !ok || strings.ContainsAny(item, " \t,") {
			v.fault(field, "want one name=value", "%q is not one resource", item)
			continue
		}
		v.directiveValue(field, item)
		if name == "walltime" || name == "select" || name == "place" {
			v.fault(field, "use the field "+name+":", "%s does not belong here", name)
			continue
		}
		if _, err := pbs.Merge([]pbs.Setting{{Option: 'l', Value: item}}, nil); err != nil {
			v.fault(field, "", "qsub would say: %v", err)
			continue
		}
		asked[name] = true
		v.memory(field, name, value)
	}
	if p.Place != "" {
		v.directiveValue("place", p.Place)
		if strings.ContainsAny(p.Place, " \t,=") || p.Select == "" {
			v.fault("place", "want free, pack, scatter, vscatter, with :excl or :exclhost, beside select", "%q is not a placement", p.Place)
		}
	}
	v.leftOut(p, asked)
}

// memory catches "mem=10", which PBS takes for ten bytes.
func (v *validator) memory(field, name, value string) {
	if name != "mem" {
		return
	}
	if bytes, err := pbs.ParseSize(value); err == nil && bytes < 1<<30 {
		v.fault(field, "write the unit: mem=1900gb", "mem=%s is %d bytes to PBS", value, bytes)
	}
}

// leftOut refuses a silent default: PBS gives 1 core, and with the cgroups hook
// 256 MB and no GPU. Source: docs/pbs.md.
func (v *validator) leftOut(p Profile, asked map[string]bool) {
	field := "select"
	if p.Select == "" {
		field = "resources"
	}
	defaults := []struct{ name, what string }{
		{"ncpus", "PBS would give 1 core"},
		{"mem", "PBS may give 256 MB, and the kernel would kill vLLM while loading"},
		{"ngpus", "PBS would give no GPU"},
	}
	for _, d := range defaults {
		if !asked[d.name] && !p.implies(d.name) {
			v.fault(field, fmt.Sprintf("add it, or write implied: [%s] if the queue fixes it", d.name), "%s is not asked for: %s", d.name, d.what)
		}
	}
	for i, name := range p.Implied {
		if !slices.Contains([]string{"ncpus", "mem", "ngpus"}, name) {
			v.fault(fmt.Sprintf("implied[%d]", i), "use ncpus, mem or ngpus", "%q cannot be implied", name)
		}
	}
}

func (v *validator) walltime(p Profile) {
	read := func(field, text string) time.Duration {
		if text == "" {
			return 0
		}
		limit, err := pbs.ParseWalltime(text)
		if err != nil {
			v.fault(field, "", "%v", err)
		}
		return limit
	}
	usual, most := read("walltime.default", p.Walltime.Default), read("walltime.max", p.Walltime.Max)
	if usual > 0 && most > 0 && usual > most {
		v.fault("walltime.default", "", "%s is above the maximum %s", p.Walltime.Default, p.Walltime.Max)
	}
}

// owned are options that the generator writes itself, with the field to use.
var owned = map[byte]string{
	'N': "the generator names the jobs", 'o': "use logs:", 'e': "output and errors go to one log", 'j': "output and errors go to one log",
	'J': "use --array", 'k': "use keep:", 'r': "restarts are the generator's affair", 'S': "the scripts need bash", 'q': "use queue:",
	'P': "use project:", 'A': "use account:", 'v': "use variables:", 'm': "use mail:", 'M': "use mail:",
	'V': "it would copy stale variables of the submitting shell (CUDA_VISIBLE_DEVICES, a virtual environment); use variables:",
	'C': "the prefix stays #PBS", 'I': "the jobs are batch jobs", 'z': "submit.sh needs the job ids", 'h': "give it to qsub",
}

func (v *validator) directives(p Profile) {
	for i, text := range p.Directives {
		v.directive(fmt.Sprintf("directives[%d]", i), text)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Variables)) {
		field, value := "variables."+name, p.Variables[name]
		v.variableName(field, name)
		if !pbs.SafeValue(value) {
			v.fault(field, "use environment: instead", "%q cannot pass through qsub -v (quote, comma, backslash or outer space)", value)
		}
		v.directiveValue(field, value)
	}
	if p.Keep != "" && p.Keep != "none" {
		if _, err := pbs.Merge([]pbs.Setting{{Option: 'k', Value: p.Keep}}, nil); err != nil {
			v.fault("keep", "want oed (log readable while the job runs), oe or none", "%q is no argument of -k", p.Keep)
		}
	}
	if p.Umask != "" && !umaskForm.MatchString(p.Umask) {
		v.fault("umask", `want three octal digits in quotes: "027"`, "%q is no umask", p.Umask)
	}
	if p.Mail.To == "" && p.Mail.When == "" {
		return
	}
	v.directiveValue("mail.to", p.Mail.To)
	if p.Mail.To == "" || strings.ContainsFunc(p.Mail.To, unicode.IsSpace) {
		v.fault("mail.to", "want addresses joined by commas", "%q is no address", p.Mail.To)
	}
	if p.Mail.When != "" && strings.Trim(p.Mail.When, "abe") != "" {
		v.fault("mail.when", "want letters of a (abort), b (begin), e (end)", "%q", p.Mail.When)
	}
}

var umaskForm = regexp.MustCompile(`^0?[0-7]{3}$`)

func (v *validator) directive(field, text string) {
	if strings.IndexFunc(text, unicode.IsControl) >= 0 || strings.HasSuffix(text, `\`) || !utf8.ValidString(text) {
		v.fault(field, "write one line of UTF-8, without control characters or a trailing backslash", "%q cannot be one directive", text)
		return
	}
	if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, pbs.Prefix) {
		v.fault(field, "leave #PBS out", "%q begins with #PBS", text)
		return
	}
	settings, err := pbs.DirectiveSettings(pbs.Directive{Text: " " + text})
	if err != nil || len(settings) == 0 {
		v.fault(field, "want options of qsub, without a comment behind them", "qsub would not read %q", text)
		return
	}
	if strings.Contains(text, " #") {
		v.fault(field, "remove it", "%q holds what looks like a comment: qsub has none", text)
	}
	for _, s := range settings {
		if why, ok := owned[s.Option]; ok {
			v.fault(field, why, "-%c is not for directives", s.Option)
			continue
		}
		job, err := pbs.Merge(nil, []pbs.Setting{s})
		if err != nil {
			v.fault(field, "", "qsub would say: %v", strings.TrimSpace(err.Error()))
			continue
		}
		for _, name := range []string{"select", "place", "walltime"} {
			if job.Resource(name) != "" {
				v.fault(field, "use the field "+name+":", "-l %s is not for directives", name)
			}
		}
		if job.Attributes["umask"] != "" || job.Attributes["group_list"] != "" || job.Attributes["depend"] != "" || job.Attributes["block"] != "" {
			v.fault(field, "use umask: or group_list:; dependencies are the generator's affair", "%q is not for directives", text)
		}
	}
}

var (
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	moduleForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+/-]*$`)
)

// taken are variables that PBS or the script sets.
var taken = []string{"HOME", "LOGNAME", "USER", "SHELL", "NCPUS", "EXP_NAME", "GLM46_WALLTIME_S", "GLM46_OUTCOME", "GLM46_VLLM", "GLM46_JOB_FOLDER", "SECONDS", "BASH_ENV", "ENV", "IFS", "SHELLOPTS", "BASHOPTS"}

func (v *validator) variableName(field, name string) {
	if !variableForm.MatchString(name) {
		v.fault(field, "use letters, digits and _", "%q is no name of a variable", name)
	}
	if strings.HasPrefix(name, "PBS_") || slices.Contains(taken, name) {
		v.fault(field, "remove it", "%s is set by PBS or by the script", name)
	}
}

func (v *validator) software(p Profile) {
	for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
		v.variableName("environment."+name, name)
		v.text("environment."+name, p.Environment[name])
	}
	for i, name := range p.Modules.Load {
		if !moduleForm.MatchString(name) {
			v.fault(fmt.Sprintf("modules.load[%d]", i), "want NAME or NAME/VERSION", "%q is no module", name)
		}
	}
	for i, dir := range p.Modules.Use {
		v.path(fmt.Sprintf("modules.use[%d]", i), dir)
	}
	v.path("modules.init", p.Modules.Init)
	if len(p.VLLM) > 0 && p.Container.Kind != "" {
		v.fault("vllm", "keep one of the two", "container is given too")
	}
	for i, word := range p.VLLM {
		v.text(fmt.Sprintf("vllm[%d]", i), word)
	}
	v.container(p.Container)
}

func (v *validator) container(c Container) {
	if c.Kind == "" {
		if c.Image != "" || len(c.Binds)+len(c.Options)+len(c.Command) > 0 {
			v.fault("container.kind", "want apptainer, singularity or enroot", "a container without a kind")
		}
		return
	}
	if !slices.Contains([]string{"apptainer", "singularity", "enroot"}, c.Kind) {
		v.fault("container.kind", "want apptainer, singularity or enroot; for another program use vllm:", "%q is not supported", c.Kind)
	}
	if c.Image == "" {
		v.fault("container.image", "name the image file", "a container without an image")
	}
	v.path("container.image", c.Image)
	for i, bind := range c.Binds {
		v.path(fmt.Sprintf("container.binds[%d]", i), bind)
	}
	for i, word := range c.Options {
		v.text(fmt.Sprintf("container.options[%d]", i), word)
	}
	for i, word := range c.Command {
		v.text(fmt.Sprintf("container.command[%d]", i), word)
	}
	for i, name := range c.Env {
		if !variableForm.MatchString(name) {
			v.fault(fmt.Sprintf("container.env[%d]", i), "name a variable", "%q is no name of a variable", name)
		}
	}
}

// path refuses what cannot be meant: control characters, and a leading dash, which
// a program would take for an option.
func (v *validator) path(field, value string) {
	v.text(field, value)
	if strings.HasPrefix(value, "-") {
		v.fault(field, "write ./ before it", "%q begins with a dash", value)
	}
	if strings.HasPrefix(value, "~") {
		v.fault(field, "write ${HOME}", "%q: ~ is not expanded", value)
	}
}

func (v *validator) paths(p Profile) {
	for _, f := range []struct{ field, value string }{
		{"venv", p.Venv}, {"scratch", p.Scratch}, {"cache", p.Cache}, {"model", p.Model}, {"data", p.Data}, {"results", p.Results},
	} {
		v.path(f.field, f.value)
	}
	for _, f := range []struct{ field, value string }{{"array_limit", p.ArrayLimit}, {"copy_binary", p.CopyBinary}, {"prefetch", p.Prefetch}} {
		if !slices.Contains([]string{"", "yes", "no", "true", "false"}, f.value) {
			v.fault(f.field, "", "want yes or no, got %q", f.value)
		}
	}
	if p.Logs != "" {
		v.path("logs", p.Logs)
		if strings.ContainsAny(p.Logs, ":^$") {
			v.fault("logs", "choose a folder without them", "%q holds a colon, ^ or $, which -o does not take as they are", p.Logs)
		}
		if !filepath.IsAbs(p.Logs) && !filepath.IsLocal(p.Logs) {
			v.fault("logs", "use an absolute path, or one below the project's folder", "%q leaves the project's folder", p.Logs)
		}
	}
}

// fieldNames are the profile's fields at all levels, for hints.
var fieldNames = []string{
	"schema", "preset", "name", "description", "queue", "project", "account", "group_list", "requires", "select", "place", "resources",
	"implied", "walltime", "default", "max", "directives", "variables", "keep", "umask", "array_limit", "mail", "to", "when", "modules",
	"init", "use", "load", "venv", "vllm", "container", "kind", "image", "binds", "options", "env", "command", "environment", "scratch",
	"cache", "copy_binary", "prefetch", "model", "data", "results", "logs",
}

var quotedName = regexp.MustCompile(`unknown field "([^"]*)"`)

func nearestField(message string) string {
	found := quotedName.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	best, distance := "", 3
	for _, name := range fieldNames {
		if d := levenshtein.Distance(found[1], name, nil); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return `see docs/site-profile.md`
	}
	return fmt.Sprintf("did you mean %q?", best)
}
