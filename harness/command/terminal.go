package command

import (
	"bytes"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/glm46/glm46/harness/fold"
)

// isTerminal reports whether w is a terminal that can redraw a line.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

// foldWidth is the width to fold prose for: a terminal's; 0, not at all, in files
// and logs, which are searched by lines.
func foldWidth(w io.Writer) int {
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return terminalWidth(w)
	}
	return 0
}

// folded gives a message in lines for w. Messages of several lines keep them.
func folded(prefix, text string, w io.Writer) string {
	if strings.Contains(text, "\n") {
		return prefix + text + "\n"
	}
	return fold.Under(prefix, text, foldWidth(w))
}

// helpWriter folds the lines that the command-line library prints, and leaves out
// defaults that say nothing.
type helpWriter struct {
	w     io.Writer
	width int
	rest  []byte // of a line without its end
}

func (h *helpWriter) Write(b []byte) (int, error) {
	h.rest = append(h.rest, b...)
	for {
		line, rest, ok := bytes.Cut(h.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		text := strings.TrimRight(string(line), " ")
		for _, empty := range []string{" (default: false)", " (default: 0)", " (default: 0s)"} {
			text = strings.TrimSuffix(text, empty)
		}
		h.rest = rest
		if _, err := io.WriteString(h.w, fold.Line(text, h.width)); err != nil {
			return 0, err
		}
	}
}

// terminalWidth is the width of w in columns; 80 where that is unknown.
func terminalWidth(w io.Writer) int {
	const (
		fallback  = 80
		narrowest = 40
	)
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width >= narrowest {
			return width
		}
	}
	return fallback
}
