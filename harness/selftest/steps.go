package selftest

import "time"

// groups is the list of checks. Groups follow each other; within one, some steps
// run at a time. What depends on time runs alone.
func groups() []group {
	return []group{
		{beside: 2, steps: []step{
			{name: "plan/cells", limit: 10 * time.Second, do: planCells},
			{name: "plan/qsub", limit: 10 * time.Second, do: planQsub},
			{name: "plan/refusals", limit: 10 * time.Second, do: planRefusals},
			{name: "plan/command", limit: 30 * time.Second, do: planCommand},
			{name: "data/generate", limit: 30 * time.Second, do: dataGenerate},
			{name: "data/faults", limit: 30 * time.Second, do: dataFaults},
			{name: "pbs/scripts", limit: 30 * time.Second, do: pbsScripts},
		}},
		{beside: 1, steps: []step{
			{name: "pace", limit: 120 * time.Second, do: paceCampaign},
			{name: "model", limit: 120 * time.Second, do: modelCampaign},
			{name: "burst", limit: 90 * time.Second, do: burstCampaign},
			{name: "bench", limit: 60 * time.Second, do: benchOpenLoop},
		}},
		{beside: 3, steps: append([]step{
			{name: "interrupt/phases", limit: 120 * time.Second, do: interruptPhases},
			{name: "interrupt/signal", limit: 120 * time.Second, do: interruptSignal},
			{name: "pbs/job", limit: 120 * time.Second, do: pbsJob},
			{name: "failures/requests", limit: 60 * time.Second, do: failedRequests},
			{name: "failures/lengths", limit: 60 * time.Second, do: failedLengths},
			{name: "failures/death", limit: 60 * time.Second, do: engineDeath},
			{name: "failures/config", limit: 60 * time.Second, do: configMismatch},
			{name: "failures/flag", limit: 60 * time.Second, do: unknownFlag},
		}, startFailureSteps()...)},
		{beside: 1, steps: []step{
			{name: "leftovers", limit: 30 * time.Second, do: leftovers},
		}},
	}
}
