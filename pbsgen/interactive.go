package pbsgen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Ask completes a profile by questions: preset, what the preset needs, queue,
// resources and walltime. An empty answer takes what stands in brackets. start is
// the preset or profile to begin with; empty asks for that too.
//
// It returns the profile and, for keeping, its text as a file of its own. It fails
// when in ends early.
func Ask(in io.Reader, out io.Writer, start string) (Profile, []byte, error) {
	d := dialog{in: bufio.NewReader(in), out: out}
	if start == "" {
		start = d.ask("site ("+strings.Join(PresetNames(), ", ")+")", "generic", func(text string) error {
			_, err := LoadProfile(text)
			return err
		})
	}
	if d.err != nil {
		return Profile{}, nil, d.err
	}
	profile, err := LoadProfile(start)
	if err != nil {
		return Profile{}, nil, err
	}
	given := yaml.MapSlice{{Key: "schema", Value: 1}}
	if _, ok := Preset(start); ok {
		given = append(given, yaml.MapItem{Key: "preset", Value: start})
	}
	for _, q := range questions(profile) {
		answer := d.ask(q.text, q.usual, func(text string) error { return q.check(profile, text) })
		if d.err != nil {
			return Profile{}, nil, d.err
		}
		q.set(&profile, answer)
		if answer != q.usual {
			given = append(given, q.item(answer))
		}
	}
	text, err := yaml.Marshal(given)
	if err != nil {
		return Profile{}, nil, err
	}
	return profile, text, nil
}

type question struct {
	field, text, usual string
	required           bool
	set                func(*Profile, string)
}

// item is the answer as the profile's file has it; "walltime.default" is nested.
func (q question) item(answer string) yaml.MapItem {
	if outer, inner, nested := strings.Cut(q.field, "."); nested {
		return yaml.MapItem{Key: outer, Value: yaml.MapSlice{{Key: inner, Value: answer}}}
	}
	return yaml.MapItem{Key: q.field, Value: answer}
}

// check refuses an answer that would make the profile invalid.
func (q question) check(p Profile, answer string) error {
	if answer == "" {
		if q.required {
			return errors.New("the site needs it")
		}
		return nil
	}
	if q.field == "walltime.default" {
		if _, err := pbs.ParseWalltime(answer); err != nil {
			return err
		}
	}
	q.set(&p, answer)
	for _, fault := range p.validate() {
		if fault.Field == q.field {
			return errors.New(fault.What)
		}
	}
	return nil
}

func questions(p Profile) []question {
	needs := func(field string) bool {
		for _, f := range p.Requires {
			if f == field {
				return true
			}
		}
		return false
	}
	list := []question{
		{"project", "project to charge, -P", p.Project, needs("project"), func(p *Profile, a string) { p.Project = a }},
		{"account", "account to charge, -A", p.Account, needs("account"), func(p *Profile, a string) { p.Account = a }},
		{"queue", "queue, -q", p.Queue, needs("queue"), func(p *Profile, a string) { p.Queue = a }},
	}
	if p.Select != "" {
		list = append(list, question{"select", "resources of one node, -l select=", p.Select, true, func(p *Profile, a string) { p.Select = a }})
	}
	return append(list,
		question{"walltime.default", "usual walltime", p.Walltime.Default, false, func(p *Profile, a string) { p.Walltime.Default = a }},
		question{"model", "folder of the model's snapshot", p.Model, needs("model"), func(p *Profile, a string) { p.Model = a }},
	)
}

// maxAnswers bounds how often one question is asked: input that is no person must
// not loop.
const maxAnswers = 5

type dialog struct {
	in  *bufio.Reader
	out io.Writer
	err error
}

func (d *dialog) ask(text, usual string, check func(string) error) string {
	for range maxAnswers {
		if d.err != nil {
			return ""
		}
		fmt.Fprintf(d.out, "%s [%s]: ", text, usual)
		line, err := d.in.ReadString('\n')
		if err != nil && line == "" {
			d.err = fmt.Errorf("no answer to %q: %w", text, err)
			return ""
		}
		answer := strings.TrimSpace(line)
		if answer == "" {
			answer = usual
		}
		err = check(answer)
		if err == nil {
			return answer
		}
		fmt.Fprintf(d.out, "  not usable: %v\n", err)
	}
	d.err = fmt.Errorf("no usable answer to %q", text)
	return ""
}
