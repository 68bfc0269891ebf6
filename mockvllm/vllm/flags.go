package vllm

// FlagKind says how a flag takes its value.
type FlagKind int

const (
	// FlagSwitch takes no value and has no negative form.
	FlagSwitch FlagKind = iota
	// FlagBool is --x or --no-x.
	FlagBool
	// FlagString, FlagInt, FlagFloat take one value.
	FlagString
	FlagInt
	FlagFloat
	// FlagHumanInt takes one whole number that may carry a suffix: 32k is
	// 32000, 32K is 32768 (HumanInt).
	FlagHumanInt
	// FlagChoice takes one of Choices.
	FlagChoice
	// FlagJSON takes a JSON object, or dotted parts: --x.key value.
	FlagJSON
	// FlagList takes one or more values; FlagAppend one value each time.
	FlagList
	FlagAppend
)

// Flag is one option of `vllm serve`.
type Flag struct {
	// Name is the long form, such as "--max-model-len".
	Name string
	// Aliases are other spellings, such as "-tp".
	Aliases []string
	Kind    FlagKind
	// Choices of a FlagChoice; empty means that any text is taken.
	Choices []string
	// Since is the first release that has the flag, Until the first that does
	// not; zero is open.
	Since, Until Version
	// DefaultText is the default in the asked version, in plain words where it
	// depends on something ("the model's own"). Filled in by Flags, LookupFlag.
	DefaultText string
	// Deprecated flags are taken with a warning and have no effect.
	Deprecated bool
	// Help says in our words what it does.
	Help string

	defaults []versionText
}

// versionText is a text that holds from a release on.
type versionText struct {
	since Version
	text  string
}

// DefaultFor gives the default in version v.
func (f Flag) DefaultFor(v Version) string {
	out := ""
	for _, d := range f.defaults {
		if d.since.IsZero() || v.Compare(d.since) >= 0 {
			out = d.text
		}
	}
	return out
}

// In reports whether version v has the flag.
func (f Flag) In(v Version) bool { return v.within(f.Since, f.Until) }

// Flags lists the options of `vllm serve` in version v, sorted by name.
func Flags(v Version) []Flag { return nil }

// AllFlags lists the options of every version, sorted by name. Two entries of
// one name differ in kind or meaning and do not overlap.
func AllFlags() []Flag { return nil }

// LookupFlag finds an option of version v by its long name or an alias, as
// written ("--max-model-len", "-tp"); no abbreviation.
func LookupFlag(v Version, name string) (Flag, bool) { return Flag{}, false }

// HasFlag reports whether version v knows the flag of that long name or alias.
func HasFlag(v Version, name string) bool { _, ok := LookupFlag(v, name); return ok }
