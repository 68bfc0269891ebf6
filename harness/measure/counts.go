package measure

// Sources of a data set's prompt token counts.
const (
	// CountsManifest: the file states them, and a manifest says what counted.
	CountsManifest = "manifest"
	// CountsFile: the file states them, and nothing says what counted.
	CountsFile = "file"
	// CountsTokenizer: counted with the model's tokenizer.json.
	CountsTokenizer = "tokenizer"
	// CountsEstimate: estimated, by the file's writer or here.
	CountsEstimate = "estimate"
)

// PromptCounts says where a data set's prompt token counts come from and how
// far they are from the server's. Chat template and special tokens are not in
// the data set's counts.
type PromptCounts struct {
	// Sources are samples by source.
	Sources map[string]int `json:"sources"`
	// TokenizerSHA256 of the tokenizer.json that counted, "" for none.
	TokenizerSHA256 string `json:"tokenizer_sha256,omitempty"`
	// AddedSpecialTokens that this file puts around one text; nil without it.
	AddedSpecialTokens *int `json:"added_special_tokens,omitempty"`
	// Server is what the server's /tokenize says of some samples, nil if it
	// does not; ServerNot says why.
	Server    *ServerCounts `json:"server,omitempty"`
	ServerNot string        `json:"server_not,omitempty"`
	// Usage compares usage.prompt_tokens of a level's completed requests with
	// the data set's counts. In run.json only.
	Usage *CountDifference `json:"usage,omitempty"`
}

// ServerCounts are counts by the server's own tokenizer, tokens.
type ServerCounts struct {
	// Samples that were asked for.
	Samples int `json:"samples"`
	// ChatTemplate is what the chat template adds to the texts of messages,
	// SpecialTokens what the tokenizer puts around a prompt; nil where no sample
	// is of that sort.
	ChatTemplate  *TokenRange `json:"chat_template,omitempty"`
	SpecialTokens *TokenRange `json:"special_tokens,omitempty"`
	// Text compares its counts of the bare texts with the data set's.
	Text CountDifference `json:"text"`
}

// TokenRange is a count over some samples, tokens.
type TokenRange struct {
	Min  int     `json:"min"`
	Mean float64 `json:"mean"`
	Max  int     `json:"max"`
}

// CountDifference is the server's count less the data set's, tokens.
type CountDifference struct {
	Samples int     `json:"samples"`
	Mean    float64 `json:"mean"`
	// Max is the difference of largest size, with its sign; SampleID has it.
	Max      int    `json:"max"`
	SampleID string `json:"sample_id"`
	// Share is the sum of differences over the sum of the data set's counts.
	Share float64 `json:"share"`

	counted int
}

// Add takes one sample: the server's count and the data set's.
func (d *CountDifference) Add(id string, server, set int) {
	diff := server - set
	sum := d.Mean*float64(d.Samples) + float64(diff)
	d.Samples++
	d.counted += set
	d.Mean = sum / float64(d.Samples)
	if d.counted > 0 {
		d.Share = sum / float64(d.counted)
	}
	if d.SampleID == "" || max(diff, -diff) > max(d.Max, -d.Max) {
		d.Max, d.SampleID = diff, id
	}
}

// Add widens the range; r may be nil and is made then. n is how many there were.
func (r *TokenRange) Add(n, tokens int) *TokenRange {
	if r == nil {
		return &TokenRange{Min: tokens, Mean: float64(tokens), Max: tokens}
	}
	r.Min, r.Max = min(r.Min, tokens), max(r.Max, tokens)
	r.Mean += (float64(tokens) - r.Mean) / float64(n+1)
	return r
}
