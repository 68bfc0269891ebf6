package command

import (
	"io"
	"os"

	"golang.org/x/term"
)

// isTerminal reports whether w is a terminal that can redraw a line.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
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
