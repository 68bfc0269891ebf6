package experiment

import "github.com/glm46/glm46/mockvllm/vllm"

// ListOptions say what `glm46 list` shows.
type ListOptions struct {
	Version vllm.Version
	// Model replaces the plan's, "" for none.
	Model string
	// Width of the text in columns; 0: 80.
	Width int
	// States by Cell.Label ("3A/64k", "5B*"), from result folders; nil: none.
	States map[string]string
	Checks []Check
}

// List is the JSON document of `glm46 list`.
type List struct {
	Plan        string     `json:"plan"`
	Model       string     `json:"model"`
	VLLMVersion string     `json:"vllm_version"`
	Base        string     `json:"base"`
	Baseline    []EnvVar   `json:"-"`
	Cells       []ListCell `json:"cells"`
}

// ListCell is one cell of a List.
type ListCell struct {
	ID           string            `json:"id"`
	Experiment   string            `json:"experiment"`
	Group        int               `json:"group"`
	GroupTitle   string            `json:"group_title"`
	Config       string            `json:"config"`
	Dataset      string            `json:"dataset"`
	Env          map[string]string `json:"env"`
	Differs      map[string]string `json:"differs"`
	ServerEnv    map[string]string `json:"server_env,omitempty"`
	Argv         []string          `json:"argv"`
	Levels       []Level           `json:"levels"`
	ConfigHash   string            `json:"config_hash"`
	SameAs       []string          `json:"same_as"`
	Added        bool              `json:"added"`
	Modified     bool              `json:"modified"`
	Accepted     bool              `json:"accepted"`
	Reason       string            `json:"reason"`
	ReasonClass  string            `json:"reason_class,omitempty"`
	EngineText   string            `json:"engine_text,omitempty"`
	CUDAGraphs   string            `json:"cuda_graphs"`
	TorchCompile string            `json:"torch_compile"`
	Notes        string            `json:"notes"`
	Correction   string            `json:"correction,omitempty"`
	State        string            `json:"state,omitempty"`
}

// NewList collects what `glm46 list` shows about cells.
func (p *Plan) NewList(cells []Cell, o ListOptions) List { return List{} }

// Text renders the list for a terminal or a log file.
func (l List) Text(o ListOptions) string { return "" }

// Parameter is one row of the parameter reference.
type Parameter struct {
	// Section of the plan's reference: "Core Parameters".
	Section string `json:"section"`
	// Flag as the plan writes it; Actual what the version asked for has, ""
	// where it has nothing of the kind.
	Flag   string `json:"flag"`
	Actual string `json:"actual"`
	// Variable of the job interface, "" for none.
	Variable    string `json:"variable,omitempty"`
	Options     string `json:"options"`
	PlanDefault string `json:"plan_default"`
	// Default of the version asked for; Defaults by version, oldest first.
	Default     string           `json:"default"`
	Defaults    []VersionDefault `json:"defaults"`
	Description string           `json:"description"`
	// First is the first version that has the flag, Last the last one known to
	// have it; "" where open.
	First string `json:"first"`
	Last  string `json:"last"`
	// Correction says what the plan's row has wrong; "" for nothing.
	Correction string `json:"correction,omitempty"`
}

// VersionDefault is a default in one version; "-" where the flag is not there.
type VersionDefault struct {
	Version string `json:"version"`
	Default string `json:"default"`
}

// Parameters is the plan's parameter reference for version v.
func Parameters(v vllm.Version) []Parameter { return nil }

// ParametersText renders the reference for a terminal; width 0 is 80 columns.
func ParametersText(v vllm.Version, width int) string { return "" }
