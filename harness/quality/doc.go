// Package quality says whether a server still answers rightly: speed counts only
// for one that does.
//
// A probe is a fixed set of generated items with known answers and of fixed
// texts. The items are answered greedily, without log probabilities, so that
// speculation takes part. The texts are not answered but scored: the server
// tells the log probability of every token of theirs and the token that it would
// have chosen itself. Scores are compared, position by position, with those of a
// reference configuration: KV cache in the model's own type, no speculation.
// Since every position is scored on the same preceding text, one early
// difference does not make all later ones.
//
// Read probe.go (what is asked), score.go (how answers are read) and judge.go
// (what follows). The package asks no server and reads no file; the campaign
// does (harness/quality.go). Formulas and limits: docs/metrics.md, quality.
package quality
