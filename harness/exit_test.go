package harness

import "testing"

func TestExitCode(t *testing.T) {
	cell := func(code int) CellOutcome { return CellOutcome{code: code} }
	known := CellOutcome{code: codeEngine, KnownBefore: true}
	for name, test := range map[string]struct {
		cells []CellOutcome
		want  int
	}{
		"valid":                            {[]CellOutcome{cell(codeOK)}, codeOK},
		"all refused":                      {[]CellOutcome{known, known}, codeEngine},
		"one refused beforehand":           {[]CellOutcome{known, cell(codeOK)}, codeOK},
		"one refused at start":             {[]CellOutcome{cell(codeEngine), cell(codeOK)}, codeEngine},
		"not valid beside refused":         {[]CellOutcome{known, cell(codeNotValid)}, codeNotValid},
		"engine before not valid":          {[]CellOutcome{cell(codeNotValid), cell(codeEngine)}, codeEngine},
		"data set before engine":           {[]CellOutcome{cell(codeEngine), cell(codeDataSet)}, codeDataSet},
		"preflight before data set":        {[]CellOutcome{cell(codeDataSet), cell(codePreflight)}, codePreflight},
		"internal before preflight":        {[]CellOutcome{cell(codePreflight), cell(codeInternal)}, codeInternal},
		"interruption before all the rest": {[]CellOutcome{cell(codeInternal), cell(codeInterrupted), known}, codeInterrupted},
	} {
		if got := exitCode(test.cells); got != test.want {
			t.Errorf("%s: exit code %d, want %d", name, got, test.want)
		}
	}
}
