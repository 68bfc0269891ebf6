// Package pbstest is a stand-in for a PBS server, its scheduler and one execution
// host, for tests. It takes qsub's command line, and runs the script as PBS would:
// with a login shell as session leader, in the home directory, under umask 077, with
// PBS's variables; it enforces the walltime late and by session, keeps processes of
// other sessions alone, reruns under the same job id, resolves dependencies, and
// reports PBS's exit status.
//
// Start gives a Server. Its commands are methods (Submit, Delete, Signal ...), and
// InstallCommands writes programs qsub, qdel, qstat ... for scripts that call them.
//
// What it leaves out: several hosts in one job, reservations, mail, staging, -a,
// interactive jobs, and limits on memory and cores. Jobs share the host's real
// processes, so a test that starts them needs bash and /proc.
//
// Source of its behaviour: docs/pbs.md, observed on OpenPBS 23.06; option rules and
// messages are those of package pbs.
package pbstest
