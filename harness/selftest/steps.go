package selftest

import "time"

// groups is the list of checks. Groups follow each other; within one, some steps
// run at a time. What depends on time runs alone.
func groups() []group {
	return []group{
		{beside: 2, steps: []step{
			{"plan/cells", 10 * time.Second, planCells},
			{"plan/qsub", 10 * time.Second, planQsub},
			{"plan/refusals", 10 * time.Second, planRefusals},
			{"plan/command", 30 * time.Second, planCommand},
			{"data/generate", 30 * time.Second, dataGenerate},
			{"data/faults", 30 * time.Second, dataFaults},
			{"pbs/scripts", 30 * time.Second, pbsScripts},
		}},
		{beside: 1, steps: []step{
			{"pace", 120 * time.Second, paceCampaign},
			{"model", 120 * time.Second, modelCampaign},
			{"predict", 60 * time.Second, predictModel},
			{"burst", 90 * time.Second, burstCampaign},
			{"bench", 60 * time.Second, benchOpenLoop},
		}},
		{beside: 3, steps: append([]step{
			{"interrupt/phases", 120 * time.Second, interruptPhases},
			{"interrupt/signal", 120 * time.Second, interruptSignal},
			{"pbs/job", 120 * time.Second, pbsJob},
			{"failures/requests", 60 * time.Second, failedRequests},
			{"failures/lengths", 60 * time.Second, failedLengths},
			{"failures/death", 60 * time.Second, engineDeath},
			{"failures/config", 60 * time.Second, configMismatch},
			{"failures/flag", 60 * time.Second, unknownFlag},
		}, startFailureSteps()...)},
		{beside: 1, steps: []step{
			{"leftovers", 30 * time.Second, leftovers},
		}},
	}
}
