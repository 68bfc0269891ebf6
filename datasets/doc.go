// Package datasets reads, validates, describes and generates the sets of
// prompts that a measurement sends.
//
// What goes in is known to the token, and bad data costs no GPU minute: a set
// is read whole, every fault of it is named with file, line, field and what to
// do, and its hash travels with each result.
//
// Read first: [Sample] and [Set] (what a set is), [Load] (for a run), [Verify]
// (streaming, for a file of any size), [Generate] (the 8k and 64k sets),
// docs/datasets.md (formats, limits, numbers).
//
// Sub-packages: tokenize counts tokens, gen writes text, expand undoes
// compression under limits. The package imports nothing else of the project,
// prints nothing, and opens no network connection.
package datasets
