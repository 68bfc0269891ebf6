package pbsgen

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docs/site-profile.md has every field and preset, and its examples are read.
func TestProfileDocument(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/site-profile.md")
	require.NoError(t, err)
	text := string(data)
	for _, name := range PresetNames() {
		require.Contains(t, text, "| `"+name+"` |")
	}
	for _, field := range yamlFields("", reflect.TypeFor[Profile]()) {
		require.Contains(t, text, "`"+field+"`")
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1)
	require.NotEmpty(t, examples)
	for _, example := range examples {
		profile, err := ParseProfile("example.yaml", []byte(example[1]))
		require.NoError(t, err, example[1])
		script, err := Runner(Options{Root: project, Profile: profile})
		require.NoError(t, err)
		sound(t, script)
	}
}

// yamlFields are the dotted names of all fields; they are also what hints know.
func yamlFields(prefix string, of reflect.Type) []string {
	var names []string
	for i := range of.NumField() {
		f := of.Field(i)
		name := prefix + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct {
			names = append(names, yamlFields(name+".", f.Type)...)
			continue
		}
		names = append(names, name)
	}
	return names
}

func TestHintsKnowEveryField(t *testing.T) {
	t.Parallel()
	for _, field := range yamlFields("", reflect.TypeFor[Profile]()) {
		for _, part := range strings.Split(field, ".") {
			require.Contains(t, fieldNames, part)
		}
	}
}
