package pbs

// Refusal is what qsub answers when it does not take a job.
type Refusal struct {
	// Text is what qsub prints on standard error, without the usage text.
	Text string
	// Exit is qsub's exit status: a PBS error number modulo 256, or 1 or 2 for
	// what qsub finds by itself.
	Exit int
	// Line is the line of the directive at fault, 0 for the command line.
	Line int
}

func (r *Refusal) Error() string { return r.Text }

// Exit statuses of qsub. Source: docs/pbs.md, messages and exit status.
const (
	ExitFault         = 1   // found by qsub in a script or in -v
	ExitUsage         = 2   // found by qsub on the command line
	ExitSelectMix     = 5   // select together with a job-wide resource
	ExitNoAttribute   = 154 // unknown -W keyword
	ExitPermission    = 159 // not allowed
	ExitIllegalValue  = 166 // bad value of a resource
	ExitUnknownQueue  = 170
	ExitUnknownResrc  = 187
	ExitOverLimits    = 188
	ExitNodeSpec      = 241
	ExitArrayTooLarge = 3
)

// illegal is qsub's answer to a value it cannot read. In a directive the text is
// followed by the directive itself and the exit status is ExitFault.
func illegal(option byte) *Refusal {
	return &Refusal{Text: "qsub: illegal -" + string(option) + " value", Exit: ExitUsage}
}
