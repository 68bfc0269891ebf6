// Package harness is the campaign: it takes cells of a plan to results on disk.
//
// Read campaign.go first (the order of checks and starts), then start.go (the
// life of one server) and level.go (one load on it). Nothing here prints: what
// happens is told to an [Observer], and what came out is an [Outcome].
package harness
