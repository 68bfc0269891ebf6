// Package pbsgen turns cells of the experiment plan and a site profile into PBS
// job scripts that work on the first qsub.
//
// It writes four kinds of job: the general runner, which takes its experiment
// from qsub -v (Runner), one job per experiment (Job), a job array (Array) and a
// chain of jobs that continue each other (Chain); and a short shakedown job.
// Generate chooses among them as the flags of "glm46 gen-pbs" do. Check explains
// what is wrong with a script that somebody edited.
//
// Read script.go first: the text of a script is there, top to bottom. profile.go
// has what differs between sites, package pbs what PBS itself does with a script.
//
// The package decides nothing about an experiment: cells come resolved, with
// their predicted hours, and the script only calls "glm46 run". It submits
// nothing. No text of a profile, a path or a cell reaches a script unquoted.
//
// Source of the PBS facts: docs/pbs.md.
package pbsgen
