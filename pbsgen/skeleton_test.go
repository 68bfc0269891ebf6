package pbsgen

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// skeleton is a script's tree of commands without the text of its words: kinds of
// nodes, names of commands and of variables set. Two scripts with equal skeletons run
// the same commands. How a word is quoted does not count, an expansion in it does.
func skeleton(script []byte) (string, error) {
	tree, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(script), "")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	depth := 0
	syntax.Walk(tree, func(node syntax.Node) bool {
		if node == nil {
			depth--
			return true
		}
		depth++
		switch n := node.(type) {
		case *syntax.Lit, *syntax.SglQuoted, *syntax.DblQuoted, *syntax.Word, *syntax.Comment:
		case *syntax.CallExpr:
			name := ""
			if len(n.Args) > 0 {
				name = n.Args[0].Lit()
			}
			fmt.Fprintf(&b, "call %q with %d words\n", name, len(n.Args))
		case *syntax.ParamExp:
			fmt.Fprintf(&b, "value of %s\n", n.Param.Value)
		case *syntax.Assign:
			if n.Name != nil {
				fmt.Fprintf(&b, "set %s\n", n.Name.Value)
			}
		default:
			b.WriteString(reflect.TypeOf(node).Elem().Name() + "\n")
		}
		return true
	})
	return b.String(), nil
}

// literalOf reads one word as bash does, without running anything.
func literalOf(word string) (string, error) {
	var found *syntax.Word
	count := 0
	for w, err := range syntax.NewParser(syntax.Variant(syntax.LangBash)).WordsSeq(strings.NewReader(word)) {
		if err != nil {
			return "", err
		}
		found = w
		count++
	}
	if count != 1 {
		return "", fmt.Errorf("%d words", count)
	}
	return expand.Literal(&expand.Config{}, found)
}
