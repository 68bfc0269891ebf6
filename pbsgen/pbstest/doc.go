// Package pbstest is a stand-in for a PBS server, its scheduler and one execution
// host, for tests: it takes qsub's command line, and runs the script as PBS would.
//
// Source of its behaviour: docs/pbs.md, observed on OpenPBS 23.06.
package pbstest

// Server is the stand-in.
type Server struct{}
