package datasets

import "github.com/glm46/glm46/datasets/tokenize"

// Tokenizer is a TokenCounter that reads a model's tokenizer.json: exact where
// [EstimateTokens] is not.
type Tokenizer struct{ *tokenize.Tokenizer }

// OpenTokenizer reads the tokenizer of a model folder (or its tokenizer.json).
// The error is *tokenize.UnsupportedError for a tokenizer of another kind than
// byte-level BPE, and os.ErrNotExist if there is no such file: tokens are then
// estimated.
func OpenTokenizer(path string) (*Tokenizer, error) {
	t, err := tokenize.Load(path)
	if err != nil {
		return nil, err
	}
	return &Tokenizer{t}, nil
}

// Info names the tokenizer by the hash of its file.
func (t *Tokenizer) Info() TokenizerInfo {
	return TokenizerInfo{Kind: "tokenizer.json", SHA256: t.SHA256}
}
