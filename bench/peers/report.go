package main

import (
	"fmt"
	"io"
	"slices"
	"sort"
)

// pair is one client's two runs of a round: the load, and the same with next to
// no events, which is what the client costs by itself.
type pair struct{ full, tiny measurement }

func (p pair) netCPUS() float64 { return p.full.CPUS - p.tiny.CPUS }

// net is events a CPU second without the start-up, gross with it.
func (p pair) net() float64   { return float64(p.full.Events-p.tiny.Events) / p.netCPUS() }
func (p pair) gross() float64 { return float64(p.full.Events) / p.full.CPUS }

// rounds gives each client's pairs of a load, in the order in which they were run.
func rounds(rows []measurement, load string) map[string][]pair {
	out := map[string][]pair{}
	tiny := map[string]measurement{}
	for _, row := range rows {
		switch row.Load {
		case load + "-tiny":
			tiny[row.Client] = row
		case load:
			out[row.Client] = append(out[row.Client], pair{row, tiny[row.Client]})
		}
	}
	return out
}

// rows calls row for every client that was measured; get gives the median of a
// figure over its rounds.
func rows(pairs map[string][]pair, row func(c client, of []pair, get func(func(pair) float64) float64)) {
	for _, c := range clients {
		if of := pairs[c.name]; len(of) > 0 {
			row(c, of, func(f func(pair) float64) float64 { return median(of, f) })
		}
	}
}

func printReport(w io.Writer, measured []measurement) {
	for _, name := range []string{"paced", "unpaced"} {
		pairs := rounds(measured, name)
		ours := pairs["glm46"]
		if len(ours) == 0 {
			continue
		}
		l := loads[name]
		fmt.Fprintf(w, "\n%s: %d requests x %d tokens, %d in flight, TTFT %s, ITL %s; medians of %d rounds\n\n",
			l.name, l.requests, l.tokens, l.concurrency, l.ttft, l.itl, len(ours))
		fmt.Fprintln(w, "| client | version | wall s | CPU s, of it start-up | us CPU an event, of it in the kernel | events a CPU second | glm46 is x times | with start-up | peak MiB |")
		fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
		rows(pairs, func(c client, of []pair, get func(func(pair) float64) float64) {
			fmt.Fprintf(w, "| %s | %s | %.1f | %.2f, %.2f | %.1f, %.1f | %.0f (%.0f to %.0f) |", c.name, of[0].full.Version,
				get(func(p pair) float64 { return p.full.WallS }), get(func(p pair) float64 { return p.full.CPUS }),
				get(func(p pair) float64 { return p.tiny.CPUS }), get(func(p pair) float64 { return 1e6 / p.net() }),
				get(func(p pair) float64 {
					return 1e6 * (p.full.KernelS - p.tiny.KernelS) / float64(p.full.Events-p.tiny.Events)
				}),
				get(pair.net), least(of, pair.net), most(of, pair.net))
			if c.name == "glm46" {
				fmt.Fprint(w, " 1 | 1 |")
			} else {
				fmt.Fprintf(w, " %.1f | %.1f |", ratio(ours, of, pair.net), ratio(ours, of, pair.gross))
			}
			fmt.Fprintf(w, " %.0f |\n", get(func(p pair) float64 { return p.full.PeakMiB }))
		})
		fmt.Fprintln(w, "\n| client | TTFT, its mean | the server's | difference | TPOT, its mean | the server's | difference |")
		fmt.Fprintln(w, "|---|---|---|---|---|---|---|")
		rows(pairs, func(c client, _ []pair, get func(func(pair) float64) float64) {
			fmt.Fprintf(w, "| %s (%s) | %.1f ms | %.1f ms | %+.1f ms | %.3f ms | %.3f ms | %+.3f ms |\n", c.name, c.calls,
				get(func(p pair) float64 { return p.full.Claims.TTFT }), get(func(p pair) float64 { return p.full.Truth.TTFT }),
				get(func(p pair) float64 { return p.full.Claims.TTFT - p.full.Truth.TTFT }),
				get(func(p pair) float64 { return p.full.Claims.TPOT }), get(func(p pair) float64 { return p.full.Truth.TPOT }),
				get(func(p pair) float64 { return p.full.Claims.TPOT - p.full.Truth.TPOT }))
		})
	}
	var certificate []float64
	for _, row := range measured {
		if row.Client == withCertificate {
			certificate = append(certificate, row.CPUS)
		}
	}
	if len(certificate) > 0 {
		sort.Float64s(certificate)
		fmt.Fprintf(w, "\nglm46's certificate, which the rows above leave out: with it start-up is %.2f CPU s (median of %d)\n",
			certificate[len(certificate)/2], len(certificate))
	}
}

func values[T any](of []T, f func(T) float64) []float64 {
	out := make([]float64, len(of))
	for i, v := range of {
		out[i] = f(v)
	}
	sort.Float64s(out)
	return out
}

// median is the upper one where there are two.
func median[T any](of []T, f func(T) float64) float64 { return values(of, f)[len(of)/2] }
func least[T any](of []T, f func(T) float64) float64  { return slices.Min(values(of, f)) }
func most[T any](of []T, f func(T) float64) float64   { return slices.Max(values(of, f)) }

// ratio is the median over rounds of ours to theirs.
func ratio(ours, theirs []pair, f func(pair) float64) float64 {
	rounds := make([]float64, min(len(ours), len(theirs)))
	for i := range rounds {
		rounds[i] = f(ours[i]) / f(theirs[i])
	}
	return median(rounds, func(r float64) float64 { return r })
}
