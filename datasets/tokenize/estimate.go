// Package tokenize counts tokens: with a model's tokenizer.json, exactly, or
// without one, as a calibrated estimate.
//
// Read first: [Tokenizer] (byte-level BPE), [Estimate].
package tokenize

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
