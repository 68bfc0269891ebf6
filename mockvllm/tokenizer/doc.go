// Package tokenizer is the mock's tokenizer and the text it writes.
//
// [Encode] cuts any bytes into tokens by longest match against a vocabulary of
// our own (words.txt and what vocabulary.go derives from it), [Decode] gives the
// same bytes back. English prose costs about 4 bytes a token and program text
// about 3.3, as with the vocabularies of large models, so lengths are plausible;
// the ids are not those of GLM-4.6, except for its special tokens.
//
// [Text] is the source of what the mock answers: sentences that re-encode to
// exactly the tokens they were made of, with a chosen share of passages copied
// from the prompt or from what was said before, which is what n-gram
// speculation lives on. Read vocabulary.go first, then text.go.
//
// The package is pure.
package tokenizer
