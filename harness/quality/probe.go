package quality

import (
	"crypto/sha256"
	_ "embed" // texts.txt
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/glm46/glm46/datasets/gen"
)

//go:embed texts.txt
var textFile string

// Item is a question with one right answer. The prompt shows by examples what is
// wanted, so no chat template and no thinking is needed.
type Item struct {
	ID, Prompt string
	// Want is the right answer: what stands before the stop string, without
	// blanks around it.
	Want string
	// MaxTokens bounds the answer; Stop ends it.
	MaxTokens int
	Stop      string
}

// Sizes of the probe. Source: own choice; what it costs is in docs/metrics.md.
const (
	sums, sorts = 5, 5
	copies      = 4
	copyLines   = 12
	lookups     = 4
	shortList   = 60
	longLookups = 4
	longList    = 600 // about 7,000 tokens
	shortAnswer = 16  // tokens
	copyTokens  = 160
	seed        = 46
	// leastBytesPerToken of the prompts, to leave out what may not fit: a digit
	// can be a token of its own.
	leastBytesPerToken = 2
)

// Items are the questions, always the same. Those that might not fit beside
// their answer into maxModelLen tokens (0: no limit) are left out.
func Items(maxModelLen int) []Item {
	var items []Item
	for i := range sums {
		items = append(items, sum(i))
	}
	for i := range sorts {
		items = append(items, sorted(i))
	}
	for i := range copies {
		items = append(items, copied(i))
	}
	for i := range lookups {
		items = append(items, lookup("lookup", i, shortList))
	}
	for i := range longLookups {
		items = append(items, lookup("long-lookup", i, longList))
	}
	return slices.DeleteFunc(items, func(it Item) bool {
		return maxModelLen > 0 && len(it.Prompt)/leastBytesPerToken+it.MaxTokens > maxModelLen
	})
}

func sum(index int) Item {
	r := gen.NewRand(seed, "quality sum", uint64(index))
	var b strings.Builder
	for range 4 {
		x, y := r.Between(100, 899), r.Between(100, 899)
		fmt.Fprintf(&b, "%d + %d = %d\n", x, y, x+y)
	}
	x, y := r.Between(100, 899), r.Between(100, 899)
	fmt.Fprintf(&b, "%d + %d =", x, y)
	return Item{ID: fmt.Sprintf("sum-%d", index), Prompt: b.String(), Want: strconv.Itoa(x + y), MaxTokens: shortAnswer, Stop: "\n"}
}

func sorted(index int) Item {
	r := gen.NewRand(seed, "quality sort", uint64(index))
	line := func() (given, want string) {
		numbers := make([]int, 6)
		for i := range numbers {
			numbers[i] = 10*(i+1) + r.IntN(10)
		}
		want = words(numbers)
		gen.Shuffle(r, numbers)
		return words(numbers), want
	}
	var b strings.Builder
	for range 3 {
		given, want := line()
		fmt.Fprintf(&b, "numbers: %s\nsorted: %s\n\n", given, want)
	}
	given, want := line()
	fmt.Fprintf(&b, "numbers: %s\nsorted:", given)
	return Item{ID: fmt.Sprintf("sort-%d", index), Prompt: b.String(), Want: want, MaxTokens: 2 * shortAnswer, Stop: "\n"}
}

func words(numbers []int) string {
	out := make([]string, len(numbers))
	for i, n := range numbers {
		out[i] = strconv.Itoa(n)
	}
	return strings.Join(out, " ")
}

var trees = []string{"maple", "cedar", "birch", "aspen", "olive", "hazel", "linden", "rowan", "willow", "alder"}

// entry is a line of a list: a name of its own and a number.
func entry(r *gen.Rand, index int) (name string, number int) {
	return fmt.Sprintf("%s-%d", gen.Pick(r, trees), index+1), r.Between(1000, 9999)
}

// copied asks for a list a second time: n-gram speculation proposes most of the
// answer.
func copied(index int) Item {
	r := gen.NewRand(seed, "quality copy", uint64(index))
	var lines []string
	for i := range copyLines {
		name, number := entry(r, i)
		lines = append(lines, fmt.Sprintf("%s: %d", name, number))
	}
	list := strings.Join(lines, "\n")
	return Item{ID: fmt.Sprintf("copy-%d", index), Prompt: "The list:\n" + list + "\n\nThe same list again:\n" + lines[0] + "\n",
		Want: strings.Join(lines[1:], "\n"), MaxTokens: copyTokens, Stop: "\n\n"}
}

// lookup asks for one line of a list far back in the KV cache.
func lookup(kind string, index, entries int) Item {
	r := gen.NewRand(seed, "quality "+kind, uint64(index))
	var b strings.Builder
	var names []string
	var numbers []int
	for i := range entries {
		name, number := entry(r, i)
		names, numbers = append(names, name), append(numbers, number)
		fmt.Fprintf(&b, "The code of %s is %d.\n", name, number)
	}
	b.WriteString("\nQuestions about the list above:\n")
	// The example is from the end of the list, the question from before it.
	shown, asked := entries-1-r.IntN(entries/8), r.IntN(entries*3/4)
	fmt.Fprintf(&b, "Question: what is the code of %s?\nAnswer: %d\n", names[shown], numbers[shown])
	fmt.Fprintf(&b, "Question: what is the code of %s?\nAnswer:", names[asked])
	return Item{ID: fmt.Sprintf("%s-%d", kind, index), Prompt: b.String(), Want: strconv.Itoa(numbers[asked]), MaxTokens: shortAnswer, Stop: "\n"}
}

// Texts are what the server scores, always the same. None is longer than about
// 180 tokens: engines keep the scores of all tokens of a prompt over the whole
// vocabulary at once, outside the memory that they planned for
// (vllm-project/vllm#5907), 6 bytes x 151,552 a token; so they are also to be
// sent one at a time.
func Texts() []string {
	texts := strings.Split(textFile, "\n---\n")
	for i := range texts {
		texts[i] = strings.TrimSpace(texts[i])
	}
	return texts
}

// ProbeSHA256 names the whole probe: only scores of the same probe are compared.
func ProbeSHA256() string {
	sum := sha256.New()
	for _, it := range Items(0) {
		fmt.Fprintf(sum, "%q %q %q %d %q\n", it.ID, it.Prompt, it.Want, it.MaxTokens, it.Stop)
	}
	for _, text := range Texts() {
		fmt.Fprintf(sum, "%q\n", text)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
