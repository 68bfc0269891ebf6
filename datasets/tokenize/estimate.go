// Package tokenize counts tokens: with a model's tokenizer.json, exactly, or
// without one, as a calibrated estimate.
//
// Read first: [Tokenizer] (byte-level BPE), [Estimate].
package tokenize

import "bytes"

// Estimate estimates how many tokens GLM-4.6's tokenizer makes of text.
//
// The text is cut as the tokenizer cuts it, and each piece costs what pieces of
// its sort and length cost on average. Source: docs/datasets.md, "Token
// estimate".
func Estimate(text string) int {
	var f Features
	f.Add(text)
	return f.Tokens()
}

// sampleFrom is the length in bytes from which EstimateSampled looks at a part
// of the text only: sampleParts parts of sampleBytes.
const (
	sampleFrom  = 64 << 10
	sampleParts = 96
	sampleBytes = 512
)

// EstimateSampled is Estimate for texts that may be long: it looks at evenly
// spaced parts of a long text, which is within a few percent of the whole for text
// that is much the same all along.
func EstimateSampled(text []byte) int {
	if len(text) < sampleFrom {
		return Estimate(string(text))
	}
	var f Features
	seen := 0
	for i := range sampleParts {
		part := text[i*(len(text)-sampleBytes)/(sampleParts-1):][:sampleBytes]
		// Not in the middle of a word, as far as one can tell from bytes.
		if j := bytes.IndexAny(part, " \n"); j > 0 && j < sampleBytes/2 {
			part = part[j:]
		}
		seen += len(part)
		f.Add(string(part))
	}
	return int(float64(f.Tokens()) * float64(len(text)) / float64(seen))
}
