// Command corpus prints the text that the comparison trains and measures on:
// prompts of every kind and language, as the data sets have them.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/glm46/glm46/datasets/gen"
)

func main() {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	for i, lang := range gen.Languages() {
		for _, kind := range gen.Kinds() {
			p := gen.NewPrompt(1, "corpus", uint64(i), gen.Options{Kind: kind, Language: lang})
			fmt.Fprint(w, p.Header(fmt.Sprint(i)))
			for range 150 {
				fmt.Fprint(w, p.Next())
			}
			fmt.Fprint(w, p.Closing())
		}
	}
}
