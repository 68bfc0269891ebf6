package pbs

import (
	"fmt"
	"strconv"
	"strings"
)

// Chunk is one part of a select request.
type Chunk struct {
	Count     int
	Resources []Resource
}

// Resource gives the value asked for in each chunk; empty if none was.
func (c Chunk) Resource(name string) string {
	for _, r := range c.Resources {
		if r.Name == name {
			return r.Value
		}
	}
	return ""
}

// ParseSelect reads the value of -l select=: chunks joined by '+', each an optional
// count and resources joined by ':'. A value may be quoted.
//
// It fails with a *Refusal as qsub would.
func ParseSelect(text string) ([]Chunk, error) {
	var chunks []Chunk
	for _, part := range strings.Split(text, "+") {
		chunk := Chunk{Count: 1}
		for i, item := range strings.Split(part, ":") {
			name, value, hasValue := strings.Cut(item, "=")
			if i == 0 && !hasValue && natural(item, &chunk.Count) {
				if chunk.Count == 0 {
					return nil, badResource("select")
				}
				continue
			}
			if !hasValue || name == "" || value == "" || strings.ContainsAny(name, " \t") {
				return nil, badResource("select")
			}
			if err := checkChunkResource(name, value); err != nil {
				return nil, err
			}
			chunk.Resources = append(chunk.Resources, Resource{Name: name, Value: value})
		}
		chunks = append(chunks, chunk)
	}
	return chunks, nil
}

func checkChunkResource(name, value string) error {
	var n int
	switch name {
	case "mem", "vmem":
		if _, err := ParseSize(value); err != nil {
			return &Refusal{Text: "qsub: Illegal attribute or resource value select." + name, Exit: ExitIllegalValue}
		}
	case "ncpus", "ngpus", "mpiprocs", "ompthreads":
		if !natural(value, &n) {
			return &Refusal{Text: "qsub: Illegal attribute or resource value select." + name, Exit: ExitIllegalValue}
		}
	}
	return nil
}

// ParseSize reads a size of PBS in bytes: "480gb", "1TB", "10G"; a bare number is
// bytes; a trailing w counts words of 8 bytes. Units are powers of 1024.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	value, err := strconv.ParseInt(number, 10, 64)
	if err != nil || value < 0 {
		return 0, fmt.Errorf("size %q: want a whole number and b, kb, mb, gb, tb or pb", text)
	}
	unit := strings.ToLower(text[len(number):])
	word := strings.HasSuffix(unit, "w")
	unit = strings.TrimRight(unit, "bw")
	shift, ok := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}[unit]
	if !ok || value > 1<<(62-shift) {
		return 0, fmt.Errorf("size %q: want b, kb, mb, gb, tb or pb after the number", text)
	}
	if word {
		shift += 3
	}
	return value << shift, nil
}
