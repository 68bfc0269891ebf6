// Package stats holds the statistics of the measurement: percentiles as numpy
// computes them, intervals, comparisons of server starts, and what a number of
// starts can tell apart. Everything is pure; nothing of ours is imported.
package stats
