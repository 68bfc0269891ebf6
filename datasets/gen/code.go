package gen

import (
	"fmt"
	"strconv"
	"strings"
)

// coder writes source text of one invented project: a few nouns and verbs make
// all of its identifiers, so that names come back as in real code.
type coder struct {
	r     *Rand
	nouns []string
	verbs []string
	types []string
}

var (
	codeNouns = []string{"block", "cache", "queue", "record", "batch", "cursor", "frame", "ledger", "segment", "token", "shard", "window", "policy", "bucket", "route", "entry", "snapshot", "lease", "index", "stream", "offset", "budget", "sample", "region", "invoice", "channel", "handle", "schema", "journal", "peer"}
	codeVerbs = []string{"load", "parse", "write", "merge", "split", "evict", "flush", "apply", "resolve", "scan", "append", "commit", "verify", "release", "acquire", "encode", "decode", "compact", "rotate", "drain", "retry", "rank", "trim", "probe"}
	codeTails = []string{"Store", "Reader", "Writer", "Manager", "Table", "Set", "Log", "Index", "Pool", "State", "Config", "Stats"}
	codeNotes = []string{"the caller holds the lock", "never called twice for one entry", "order matters: the oldest goes first", "a zero value means no limit", "callers rely on the sorted order", "cheap enough to run on every step", "the list is short, so a scan wins over a map", "must not block", "safe for concurrent use", "kept for files written before version 3", "the remainder is handled below", "an empty result is not an error"}
	codeErrs  = []string{"out of range", "already closed", "checksum mismatch", "too many entries", "not found", "short read", "stale lease", "unknown version"}
)

func newCoder(r *Rand) *coder {
	c := &coder{r: r, nouns: append([]string(nil), codeNouns...), verbs: append([]string(nil), codeVerbs...)}
	Shuffle(r, c.nouns)
	Shuffle(r, c.verbs)
	c.nouns, c.verbs = c.nouns[:14], c.verbs[:12]
	for range 6 {
		c.types = append(c.types, title(Pick(r, c.nouns))+Pick(r, codeTails))
	}
	return c
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (c *coder) noun() string { return PickZipf(c.r, c.nouns) }
func (c *coder) verb() string { return PickZipf(c.r, c.verbs) }
func (c *coder) typ() string  { return PickZipf(c.r, c.types) }
func (c *coder) num() string  { return strconv.Itoa(1 << c.r.IntN(13)) }

// camel makes a name like parseBlock, snake one like parse_block.
func (c *coder) camel() string { return c.verb() + title(c.noun()) }
func (c *coder) snake() string { return c.verb() + "_" + c.noun() }

// file is a piece of source text with its path.
type file struct{ path, lang, text string }

// file writes a source file in one of several languages.
func (c *coder) file() file {
	dir := c.noun() + "s/" + c.noun()
	switch c.r.IntN(10) {
	case 0, 1, 2, 3:
		return file{dir + ".go", "go", c.goFile()}
	case 4, 5, 6:
		return file{dir + ".py", "python", c.pyFile()}
	case 7:
		return file{dir + ".c", "c", c.cFile()}
	case 8:
		return file{dir + ".sql", "sql", c.sqlFile()}
	}
	return file{dir + ".yaml", "yaml", c.yamlFile()}
}

func (c *coder) goFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n\nimport (\n\t\"errors\"\n\t\"fmt\"\n\t\"sort\"\n)\n\n", c.noun())
	t := c.typ()
	fields := []string{c.noun(), c.noun() + "s", c.noun() + "Count"}
	fmt.Fprintf(&b, "// %s keeps the %s of one %s; %s.\ntype %s struct {\n", t, fields[1], fields[0], Pick(c.r, codeNotes), t)
	fmt.Fprintf(&b, "\t%s  string\n\t%s []%s\n\t%s int\n}\n\n", fields[0], fields[1], c.typ(), fields[2])
	for range c.r.Between(2, 5) {
		recv := strings.ToLower(t[:1])
		name := c.camel()
		arg := c.noun()
		fmt.Fprintf(&b, "// %s returns the %s after %s; %s.\nfunc (%s *%s) %s(%s string, limit int) (int, error) {\n", title(name), c.noun(), arg, Pick(c.r, codeNotes), recv, t, title(name), arg)
		fmt.Fprintf(&b, "\tif limit <= 0 || %s == \"\" {\n\t\treturn 0, errors.New(\"%s: %s\")\n\t}\n", arg, name, Pick(c.r, codeErrs))
		for range c.r.Between(1, 4) {
			c.goStatement(&b, recv, fields, arg)
		}
		fmt.Fprintf(&b, "\treturn len(%s.%s), nil\n}\n\n", recv, fields[1])
	}
	return b.String()
}

func (c *coder) goStatement(b *strings.Builder, recv string, fields []string, arg string) {
	n, m := c.noun(), c.noun()
	switch c.r.IntN(11) {
	case 0:
		fmt.Fprintf(b, "\tfor i, %s := range %s.%s {\n\t\tif i >= limit {\n\t\t\tbreak\n\t\t}\n\t\t%s.%s += %s.%s(%s)\n\t}\n", n, recv, fields[1], recv, fields[2], n, c.camel(), arg)
	case 1:
		fmt.Fprintf(b, "\t%s, err := %s.%s(%s)\n\tif err != nil {\n\t\treturn 0, fmt.Errorf(\"%s %%q: %%w\", %s, err)\n\t}\n\t%s.%s(%s)\n", n, recv, c.camel(), arg, c.snake(), arg, recv, c.camel(), n)
	case 2:
		fmt.Fprintf(b, "\tsort.Slice(%s.%s, func(i, j int) bool {\n\t\treturn %s.%s[i].%s < %s.%s[j].%s\n\t})\n", recv, fields[1], recv, fields[1], n, recv, fields[1], n)
	case 3:
		fmt.Fprintf(b, "\t// %s\n\tif %s.%s > %s {\n\t\t%s.%s = %s\n\t}\n", title(Pick(c.r, codeNotes)), recv, fields[2], c.num(), recv, fields[2], c.num())
	case 4:
		fmt.Fprintf(b, "\tswitch %s {\n\tcase \"%s\":\n\t\tlimit /= 2\n\tcase \"%s\", \"%s\":\n\t\tlimit = min(limit, %s)\n\t}\n", arg, c.snake(), c.noun(), c.noun(), c.num())
	case 5:
		fmt.Fprintf(b, "\t%s := make(map[string]%s, limit)\n\tfor _, %s := range %s.%s {\n\t\t%s[%s.name] = %s\n\t}\n", n, c.typ(), m, recv, fields[1], n, m, m)
	case 6:
		fmt.Fprintf(b, "\tif %s, ok := %s.%s[%s]; ok && !%s.closed {\n\t\t%s.%s(%s, %s)\n\t}\n", n, recv, c.noun(), arg, n, recv, c.camel(), n, c.num())
	case 7:
		fmt.Fprintf(b, "\t%s := %s.%s + limit*%s\n\t%s := %s %% %s\n\tif %s == 0 {\n\t\t%s--\n\t}\n", n, recv, fields[2], c.num(), m+"Left", n, c.num(), m+"Left", n)
	case 8:
		fmt.Fprintf(b, "\tdefer %s.%s(\"%s\")\n\t%s.%s = append(%s.%s, %s{%s: %s})\n", recv, c.camel(), c.snake(), recv, fields[1], recv, fields[1], c.typ(), n, arg)
	case 9:
		fmt.Fprintf(b, "\tselect {\n\tcase %s := <-%s.%ss:\n\t\t%s.%s(%s)\n\tdefault:\n\t\treturn %s, nil\n\t}\n", n, recv, m, recv, c.camel(), n, c.num())
	case 10:
		fmt.Fprintf(b, "\tvar %s [%s]%s\n\tcopy(%s[:], %s.%s)\n\t%s.%s = %s[:limit]\n", n, c.num(), c.typ(), n, recv, fields[1], recv, fields[1], n)
	}
}

func (c *coder) pyFile() string {
	var b strings.Builder
	t := c.typ()
	fmt.Fprintf(&b, "from __future__ import annotations\n\nimport logging\nfrom dataclasses import dataclass, field\n\nlog = logging.getLogger(__name__)\n\n\n@dataclass\nclass %s:\n    \"\"\"Holds one %s; %s.\"\"\"\n\n    name: str\n    %s_count: int = %s\n    %ss: list[str] = field(default_factory=list)\n\n", t, c.noun(), Pick(c.r, codeNotes), c.noun(), c.num(), c.noun())
	for range c.r.Between(2, 5) {
		name, arg, n := c.snake(), c.noun(), c.noun()
		fmt.Fprintf(&b, "    def %s(self, %s: str, limit: int = %s) -> int:\n        \"\"\"Return the number of %ss. %s.\"\"\"\n", name, arg, c.num(), n, title(Pick(c.r, codeNotes)))
		for range c.r.Between(2, 5) {
			c.pyStatement(&b, name, arg)
		}
		fmt.Fprintf(&b, "        return %s\n\n", Pick(c.r, []string{"total", "limit", "len(self." + n + "s)", "self." + n + "_count", "max(total, 0)"}))
	}
	return b.String()
}

func (c *coder) pyStatement(b *strings.Builder, name, arg string) {
	n, m := c.noun(), c.noun()
	switch c.r.IntN(8) {
	case 0:
		fmt.Fprintf(b, "        if not %s:\n            raise ValueError(f\"%s: %s: {%s!r}\")\n", arg, name, Pick(c.r, codeErrs), arg)
	case 1:
		fmt.Fprintf(b, "        for %s in sorted(self.%ss, key=lambda x: (len(x), x)):\n            if %s.startswith(%s):\n                total += %s\n", n, m, n, arg, c.num())
	case 2:
		fmt.Fprintf(b, "        if total > limit:\n            log.warning(\"%s: %%d of %%d\", total, limit)\n            total = limit\n", c.snake())
	case 3:
		fmt.Fprintf(b, "        with self.%s(%s) as %s:\n            self.%ss.extend(x.strip() for x in %s if x)\n", c.snake(), arg, n, m, n)
	case 4:
		fmt.Fprintf(b, "        %s = {k: v for k, v in self.%s.items() if v >= %s}\n        total = sum(%s.values())\n", n, m, c.num(), n)
	case 5:
		fmt.Fprintf(b, "        try:\n            %s = int(self.%s[%s])\n        except (KeyError, ValueError) as err:\n            raise RuntimeError(\"%s\") from err\n", n, m, arg, Pick(c.r, codeErrs))
	case 6:
		fmt.Fprintf(b, "        # %s\n        self.%s_count -= %s\n        assert self.%s_count >= 0, \"%s\"\n", title(Pick(c.r, codeNotes)), n, c.num(), n, Pick(c.r, codeErrs))
	case 7:
		fmt.Fprintf(b, "        %s = [self.%s(%s, i) for i in range(limit)]\n        while %s and %s[-1] is None:\n            %s.pop()\n", n, c.snake(), arg, n, n, n)
	}
}

func (c *coder) cFile() string {
	var b strings.Builder
	s := c.noun()
	fmt.Fprintf(&b, "#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\n#include \"%s.h\"\n\n#define MAX_%s %s\n\nstruct %s {\n\tuint32_t %s;\n\tsize_t %s_len;\n\tstruct %s *next;\n};\n\n", s, strings.ToUpper(s), c.num(), s, c.noun(), c.noun(), s)
	for range c.r.Between(2, 4) {
		arg := c.noun()
		fmt.Fprintf(&b, "/* %s. */\nint %s(struct %s *p, const char *%s, size_t len)\n{\n\tsize_t i;\n\n", title(Pick(c.r, codeNotes)), c.snake(), s, arg)
		for range c.r.Between(2, 4) {
			c.cStatement(&b, s, arg)
		}
		fmt.Fprintf(&b, "\treturn %s;\n}\n\n", Pick(c.r, []string{"(int)i", "0", "p->" + c.noun() + " != 0", "(int)len"}))
	}
	return b.String()
}

func (c *coder) cStatement(b *strings.Builder, s, arg string) {
	n := c.noun()
	switch c.r.IntN(6) {
	case 0:
		fmt.Fprintf(b, "\tif (p == NULL || len > MAX_%s)\n\t\treturn -%d;\n", strings.ToUpper(s), c.r.Between(1, 40))
	case 1:
		fmt.Fprintf(b, "\tfor (i = 0; i < len; i++) {\n\t\tif (%s[i] == '\\%d')\n\t\t\tbreak;\n\t\tp->%s ^= (uint32_t)%s[i] << (i & %d);\n\t}\n", arg, c.r.IntN(8), n, arg, c.r.Between(3, 31))
	case 2:
		fmt.Fprintf(b, "\tmemcpy(p->%s, %s, len * sizeof(*p->%s));\n\tp->%s_len = len;\n", n, arg, n, n)
	case 3:
		fmt.Fprintf(b, "\tif (%s(p->next, %s, len - %s) < 0)\n\t\tgoto %s_failed;\n", c.snake(), arg, c.num(), n)
	case 4:
		fmt.Fprintf(b, "\twhile (p->next != NULL && p->%s < %s)\n\t\tp = p->next; /* %s */\n", n, c.num(), Pick(c.r, codeNotes))
	case 5:
		fmt.Fprintf(b, "\tp->%s = realloc(p->%s, (len + %s) & ~(size_t)%d);\n", n, n, c.num(), 1<<c.r.Between(1, 6)-1)
	}
}

func (c *coder) sqlFile() string {
	var b strings.Builder
	t := c.noun()
	fmt.Fprintf(&b, "CREATE TABLE %ss (\n    id BIGINT PRIMARY KEY,\n    %s_id BIGINT NOT NULL REFERENCES %ss (id),\n    %s TEXT NOT NULL DEFAULT '',\n    created_at TIMESTAMP NOT NULL\n);\n\n", t, c.noun(), c.noun(), c.noun())
	for range c.r.Between(2, 4) {
		n := c.noun()
		fmt.Fprintf(&b, "-- %s\nSELECT t.id, COUNT(*) AS %s_count, MAX(x.%s) AS last_%s\nFROM %ss AS t\nLEFT JOIN %ss AS x ON x.%s_id = t.id\nWHERE t.%s > %s AND x.%s IS NOT NULL\nGROUP BY t.id\nHAVING COUNT(*) > %s\nORDER BY %s_count DESC\nLIMIT %s;\n\n", title(Pick(c.r, codeNotes)), n, c.noun(), n, t, n, t, c.noun(), c.num(), c.noun(), strconv.Itoa(c.r.Between(1, 20)), n, c.num())
	}
	return b.String()
}

func (c *coder) yamlFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n%s:\n  name: %s-%s\n  replicas: %d\n", title(Pick(c.r, codeNotes)), c.noun(), c.noun(), c.noun(), c.r.Between(1, 9))
	for range c.r.Between(3, 7) {
		fmt.Fprintf(&b, "  %s:\n    max_%s: %s\n    %s_timeout: %ds\n    enabled: %t\n", c.noun(), c.noun(), c.num(), c.verb(), c.r.Between(1, 120), c.r.Chance(0.5))
	}
	return b.String() + "\n"
}

// diff writes a change to some of the lines of a file.
func (c *coder) diff(f file) string {
	lines := strings.Split(strings.TrimRight(f.text, "\n"), "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "--- a/%s\n+++ b/%s\n", f.path, f.path)
	for at := c.r.Between(0, 6); at < len(lines); at += c.r.Between(8, 30) {
		end := min(at+c.r.Between(5, 9), len(lines))
		fmt.Fprintf(&b, "@@ -%d,%d +%d,%d @@\n", at+1, end-at, at+1, end-at)
		change := c.r.Between(at, end-1)
		for i := at; i < end; i++ {
			if i != change || strings.TrimSpace(lines[i]) == "" {
				b.WriteString(" " + lines[i] + "\n")
				continue
			}
			b.WriteString("-" + lines[i] + "\n")
			for _, n := range c.nouns[:4] {
				if strings.Contains(lines[i], n) {
					b.WriteString("+" + strings.ReplaceAll(lines[i], n, c.noun()) + "\n")
					break
				}
			}
		}
		at = end
	}
	return b.String()
}

// log writes lines of a program's log.
func (c *coder) log(n int) string {
	var b strings.Builder
	sec := c.r.IntN(80000)
	for range n {
		sec += c.r.IntN(4)
		level := PickZipf(c.r, []string{"INFO", "INFO", "DEBUG", "WARN", "ERROR"})
		fmt.Fprintf(&b, "%02d:%02d:%02d.%03d %-5s %s: %s %s=%s took=%dms\n", sec/3600, sec/60%60, sec%60, c.r.IntN(1000), level, c.noun(), c.verb(), c.noun(), c.num(), c.r.IntN(900))
	}
	return b.String()
}

// call writes the JSON arguments of a tool call.
func (c *coder) call() string {
	return fmt.Sprintf("{\"name\": \"%s\", \"arguments\": {\"path\": \"%ss/%s\", \"limit\": %s, \"pattern\": \"%s\"}}", c.snake(), c.noun(), c.noun(), c.num(), c.noun())
}
