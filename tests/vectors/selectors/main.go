// Command selectors writes proxy/src/request_info/selector/selectors.tsv: label
// and field selectors put together at random or by hand, whether the API
// server's own code takes them, and whether they match; and the fields that
// each resource can be selected by. From tests/go/cluster, whose go.mod it uses:
//
//	go run ../../vectors/selectors/main.go [-n LINES] [-seed SEED] > ../../../proxy/src/request_info/selector/selectors.tsv
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/controlplane"
)

func main() {
	lines := flag.Int("n", 3000, "how many lines with a selector")
	seed := flag.Uint64("seed", 1, "of the random numbers")
	flag.Parse()
	random := rand.New(rand.NewPCG(*seed, 0))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, line := range resources() {
		fmt.Fprintln(out, line)
	}
	for i := range *lines {
		var line string
		switch {
		case i < len(labelsByHand):
			line = labelLine(labelsByHand[i], randomLabels(random))
		case i < len(labelsByHand)+len(fieldsByHand):
			line = fieldLine(fieldsByHand[i-len(labelsByHand)], randomFields(random))
		case random.IntN(4) == 0:
			line = fieldLine(fieldSelector(random), randomFields(random))
		default:
			line = labelLine(labelSelector(random), randomLabels(random))
		}
		fmt.Fprintln(out, line)
	}
}

func labelLine(selector string, set labels.Set) string {
	parsed, err := labels.Parse(selector)
	told := "error"
	if err == nil {
		told = fmt.Sprint(parsed.Matches(set))
	}
	return fmt.Sprintf("LABEL\t%s\t%s\t%s", quoted(selector), quoted(set), told)
}

func fieldLine(selector string, set fields.Set) string {
	parsed, err := fields.ParseSelector(selector)
	told := "error"
	if err == nil {
		told = fmt.Sprint(parsed.Matches(set))
	}
	return fmt.Sprintf("FIELD\t%s\t%s\t%s", quoted(selector), quoted(set), told)
}

// resources tells of each resource under which name each of its fields is
// compared.
func resources() []string {
	scheme := legacyscheme.Scheme
	var lines []string
	for kind := range scheme.AllKnownTypes() {
		if kind.Version == runtime.APIVersionInternal || !isServed(kind) {
			continue
		}
		permitted := map[string]string{}
		for _, field := range fieldNames() {
			if name, _, err := scheme.ConvertFieldLabel(kind, field, ""); err == nil {
				permitted[field] = name
			}
		}
		resource, _ := meta.UnsafeGuessKindToResource(kind)
		lines = append(lines, fmt.Sprintf("FIELDS\t%s\t%s\t%s", resource.Group, resource.Resource, quoted(permitted)))
	}
	sort.Strings(lines)
	return compact(lines)
}

// isServed is false for what is no resource, and for what only old clusters
// have.
func isServed(kind schema.GroupVersionKind) bool {
	object, err := legacyscheme.Scheme.New(kind)
	if err != nil {
		return false
	}
	if _, err := meta.Accessor(object); err != nil {
		return false
	}
	removed, ok := object.(interface{ APILifecycleRemoved() (int, int) })
	if !ok {
		return true
	}
	_, minor := removed.APILifecycleRemoved()
	return minor > 36
}

func compact(sorted []string) []string {
	var once []string
	for _, line := range sorted {
		if len(once) == 0 || once[len(once)-1] != line {
			once = append(once, line)
		}
	}
	return once
}

// fieldNames are all names that any conversion function or set of selectable
// fields has, and some more.
func fieldNames() []string {
	names := []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "name", "namespace", "type", "reason", "source",
		"reportingComponent", "reportingController", "source.component", "spec.host", "spec.hostNetwork", "spec.nodeName",
		"spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.unschedulable", "spec.clusterIP", "spec.type",
		"spec.signerName", "spec.podName", "spec.driver", "spec.leaseName", "spec.replicas", "spec.pool.name", "status.phase",
		"status.podIP", "status.podIPs", "status.nominatedNodeName", "status.successful", "status.succeeded", "status.replicas",
		"status.hostIP", "", "metadata.Name", "spec", "status",
	}
	for _, of := range []string{"involvedObject.", "regarding.", "related."} {
		for _, name := range []string{"kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"} {
			names = append(names, of+name)
		}
	}
	return names
}

func quoted(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

var (
	long         = strings.Repeat("a", 63)
	longPrefix   = strings.Repeat(strings.Repeat("a", 62)+".", 4) + "a"
	labelsByHand = []string{
		"", " ", "\t\r\n", ",", "a,", ",a", "a,,b", "a", "!a", "! a", "!!a", "!", "!a=b", "a!", "a=b=c", "a===b", "a=!b", "a!b", "a!==b",
		"a=", "a==", "a!=", "a=,b", "a= ,b", "a>", "a<", "a>1", "a<1", "a>-1", "a>+1", "a>1.5", "a>0x1", "a>1_0", "a>007", "a> 1",
		"a>9223372036854775807", "a>9223372036854775808", "a<9223372036854775807", "a>1,a<3", "a>b", "a>=1", "a<>1", "a in (1)",
		"a in (1,2)", "a in ()", "a in (,)", "a in (,1)", "a in (1,)", "a in (1,,2)", "a in ( 1 , 2 )", "a in (1", "a in 1", "a in",
		"a in (1 2)", "a in(1)", "a in ((1))", "a in (!1)", "a in (=)", "a in (1),b", "a in (1)b", "a in (in)", "a in (notin,in)",
		"a notin (1)", "a notin ()", "a notin", "a not in (1)", "in", "notin", "!in", "in in (in)", "in=in", "in in", "in (in)", "notin notin (notin)",
		"a b", "a,b", "a ,b", "a\x00b", "a\x00", "\x00a", "a\x00\x00b", "a=\x00b", "a\x00=b", "a \x00,,,", "a,\x00", "a=b\x00,", "a in (b\x00,c)",
		"x.io/c", "x.io/c=1", "/c", "x.io/", "x.io/c/d", "X.io/c", "x_.io/c", "-x.io/c", "x..io/c", "x.io./c", "x.io/-c", "1.2/3",
		"-a", "a-", "a.", "_a", "a_b.c-d", "A", "a=-b", "a=b-", "a=b/c", "a=é", "é=a", "a=B_c.d-e", "a\u00a0=b", "a=\u00a0", "a\v=b",
		long + "=" + long, long + "a=b", "a=" + long + "a", longPrefix + "/a", longPrefix + "a/a", "a=b,a=c", "a=b,a=b", "a=1,a", "a,!a",
		"a=b;c=d", "a:b", "\"a\"=b", "a='b'", "a=(b)", "(a)", "a)", ">1", "<a", "=b", "==b", "!=b", "a=b!", "a=b>1", "a<1<2",
	}
	fieldsByHand = []string{
		"", ",", ",,", "a", "a=", "=a", "=", "==", "===", "!=", "!", "a!", "a!=", "a!=b", "a==b", "a===b", "a=!b", "a!==b", "a=b=c", `a=b\=c`,
		`a=b\,c`, `a=b\\`, `a=b\\c`, `a=b\c`, `a=b\`, `a\=b`, `a\,b=c`, `a\,b`, "a=b,", ",a=b", "a=b,,c=d", "a=b,c", " a=b", "a = b", "a=b ",
		"=,a=b", "!=,a=b", "=,=", "a=b,a=c", "a=é", "é=a", `a=\é`, "a=\x00", "a in (b)", "a>1", `\=a`, "!a=b", "a!b=c", `a!=b\,c`,
	}
	keys   = []string{"a", "b", "in", "x.io/c"}
	values = []string{"1", "1", "2", "10", "007", "b", "b", "in", "", "B.c", "9223372036854775807", "9223372036854775808"}
	tokens = append([]string{
		"=", "==", "!=", "!", "(", ")", ",", ">", "<", " ", "\t", " in ", " notin ", " in (", "\x00", "\n", "é", "-", "/", ".", "_", "X",
	}, append(keys, values...)...)
	fieldTokens = []string{"a", "b", "a.b", "=", "==", "!=", "!", ",", `\`, `\\`, `\,`, `\=`, " ", "é", "c"}
)

func one(random *rand.Rand, of []string) string { return of[random.IntN(len(of))] }

func randomLabels(random *rand.Rand) labels.Set {
	set := labels.Set{}
	for range random.IntN(8) {
		set[one(random, keys)] = one(random, values)
	}
	return set
}

func randomFields(random *rand.Rand) fields.Set {
	set := fields.Set{}
	for range random.IntN(6) {
		set[one(random, []string{"a", "b", "a.b"})] = one(random, []string{"a", "b", "c", "", "b,c", "b=c", `b\`, " b"})
	}
	return set
}

// labelSelector is most often one that parses.
func labelSelector(random *rand.Rand) string {
	if random.IntN(4) == 0 {
		return soup(random, tokens)
	}
	terms := make([]string, 1+random.IntN(3))
	for i := range terms {
		terms[i] = labelTerm(random)
	}
	return damaged(random, strings.Join(terms, one(random, []string{",", ",", ", ", " ,\t"})))
}

func labelTerm(random *rand.Rand) string {
	key, space := one(random, keys), one(random, []string{"", "", " "})
	switch random.IntN(5) {
	case 0:
		return one(random, []string{"", "!", "! "}) + key
	case 1:
		members := make([]string, random.IntN(4))
		for i := range members {
			members[i] = space + one(random, values)
		}
		return key + one(random, []string{" in ", " notin "}) + "(" + strings.Join(members, ",") + space + ")"
	case 2:
		return key + space + one(random, []string{">", "<"}) + space + one(random, []string{"1", "2", "9", "007", "x", "-1"})
	default:
		return key + space + one(random, []string{"=", "==", "!="}) + space + one(random, values)
	}
}

func fieldSelector(random *rand.Rand) string {
	if random.IntN(3) == 0 {
		return soup(random, fieldTokens)
	}
	terms := make([]string, 1+random.IntN(3))
	for i := range terms {
		value := fields.EscapeValue(one(random, []string{"a", "b", "c", "", "b,c", "b=c", `b\`, " b"}))
		terms[i] = one(random, []string{"a", "b", "a.b", ""}) + one(random, []string{"=", "==", "!="}) + value
	}
	return damaged(random, strings.Join(terms, ","))
}

func soup(random *rand.Rand, tokens []string) string {
	var text strings.Builder
	for range random.IntN(8) {
		text.WriteString(one(random, tokens))
	}
	return text.String()
}

// damaged lacks a character now and then.
func damaged(random *rand.Rand, text string) string {
	if len(text) == 0 || random.IntN(6) != 0 {
		return text
	}
	at := random.IntN(len(text))
	return text[:at] + text[at+1:]
}
