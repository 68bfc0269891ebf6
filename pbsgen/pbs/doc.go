// Package pbs holds what PBS itself does with a job script and with the options of
// qsub: how directives are found and split, what each option accepts, how -v is
// read, which setting wins. The generator quotes by these rules, the checker
// explains by them and the stand-in for tests runs by them.
//
// Read directive.go first. Everything here is pure. Messages and exit codes are
// those of OpenPBS 23.06.
//
// Source: docs/pbs.md.
package pbs
