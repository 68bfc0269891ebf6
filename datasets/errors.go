package datasets

import (
	"fmt"
	"strings"
)

// Fault is one finding about a data set.
type Fault struct {
	// File is the file, as the user named it; a member of an archive stands
	// after "!": "samples.tar.gz!part/3.json".
	File string `json:"file"`
	// Line in the expanded file, from 1; 0 where no line is meant.
	Line int64 `json:"line,omitempty"`
	// Field of the record ("messages[2].content"), or "".
	Field string `json:"field,omitempty"`
	// Code is a short fixed name of the kind of fault ("json", "duplicate_id").
	Code string `json:"code"`
	// What happened, in words.
	What string `json:"what"`
	// Do says what to do about it.
	Do string `json:"do,omitempty"`
}

// String formats the fault as "file:line: field: what; do".
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if f.Field != "" {
		b.WriteString(f.Field)
		b.WriteString(": ")
	}
	b.WriteString(f.What)
	if f.Do != "" {
		b.WriteString("; ")
		b.WriteString(f.Do)
	}
	return b.String()
}

// InvalidError says that a data set was found and cannot be used (exit 7).
type InvalidError struct {
	// Faults in the order of the file, at least one.
	Faults []Fault
	// More counts the faults beyond the limit, which are not listed.
	More int64
}

// Error lists every fault, one a line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", e.More)
	}
	return b.String()
}

// NotFoundError says that there is no data set where one was looked for
// (exit 7).
type NotFoundError struct {
	// Name of the set, "" if a file was asked for by path.
	Name string
	// Path of the folder or file.
	Path string
	// Looked lists the file names that would have been read.
	Looked []string
	// Command is the command line that makes the set, or "".
	Command string
}

// Error says what is missing and which command makes it.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	if e.Name != "" {
		fmt.Fprintf(&b, "%s: no data set %q", e.Path, e.Name)
		if len(e.Looked) > 0 {
			fmt.Fprintf(&b, " (looked for %s)", strings.Join(e.Looked, ", "))
		}
	} else {
		fmt.Fprintf(&b, "%s: no such file or folder", e.Path)
	}
	if e.Command != "" {
		fmt.Fprintf(&b, "; make it with: %s", e.Command)
	}
	return b.String()
}

// ExistsError says that Generate would replace a data set that it did not
// write.
type ExistsError struct {
	// Path of the file in the way.
	Path string
}

// Error says what is in the way.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s: a data set that was not generated here is in the way; move it, or choose another folder", e.Path)
}
