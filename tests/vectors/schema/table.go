package main

import (
	"bufio"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	apps "k8s.io/api/apps/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	kubernetes "k8s.io/component-base/version"
)

const head = `# The kinds of Kubernetes %s: what a field of protobuf is called in JSON, and when it is there.
# Written by tests/vectors/schema.
#
# kind	apiVersion	kind	message	j, if etcd has it as JSON
# message	Go type (the first of those that are alike)	its fields in the order of JSON:
#   name number type flags
#   type: the number of a message, or one of
#     s string  b bool  i int32  l int64  d double  y bytes  t Time  u MicroTime  q Quantity  n IntOrString
#     r RawExtension, FieldsV1 or any other bytes that are JSON  w strings in a message of their own
#     B O A JSONSchemaPropsOrBool, -OrStringArray, -OrArray, with the number of JSONSchemaProps
#   flags: o omitempty or omitzero  p pointer  l list  m map  i inline
#     c PersistentVolumeClaims, whose kind and apiVersion only JSON tells
`

// special are the types whose JSON is not that of their fields.
var special = map[reflect.Type]string{
	reflect.TypeFor[meta.Time]():                               "t",
	reflect.TypeFor[meta.MicroTime]():                          "u",
	reflect.TypeFor[meta.FieldsV1]():                           "r",
	reflect.TypeFor[resource.Quantity]():                       "q",
	reflect.TypeFor[intstr.IntOrString]():                      "n",
	reflect.TypeFor[runtime.RawExtension]():                    "r",
	reflect.TypeFor[extensions.JSON]():                         "r",
	reflect.TypeFor[extensions.JSONSchemaPropsOrBool]():        "B",
	reflect.TypeFor[extensions.JSONSchemaPropsOrStringArray](): "O",
	reflect.TypeFor[extensions.JSONSchemaPropsOrArray]():       "A",
}

var scalars = map[reflect.Kind]string{
	reflect.String: "s", reflect.Bool: "b", reflect.Int32: "i", reflect.Int64: "l", reflect.Float64: "d",
}

type field struct {
	name, kind, flags string
	number            int
	message           reflect.Type
}

type table struct {
	fields map[reflect.Type][]field
	order  []reflect.Type
}

func writeTable(out *bufio.Writer, kinds []kind) {
	of := table{fields: map[reflect.Type][]field{}}
	for _, kind := range kinds {
		of.add(kind.scheme.AllKnownTypes()[kind.GroupVersionKind])
	}
	numbers := of.numbers()
	fmt.Fprintf(out, head, kubernetes.DefaultKubeBinaryVersion)
	for _, kind := range kinds {
		number := numbers[kind.scheme.AllKnownTypes()[kind.GroupVersionKind]]
		fmt.Fprintf(out, "kind\t%s\t%s\t%d", kind.GroupVersion(), kind.Kind, number)
		if kind.inJSON {
			fmt.Fprint(out, "\tj")
		}
		fmt.Fprintln(out)
	}
	written := 0
	for _, message := range of.order {
		if numbers[message] != written {
			continue
		}
		written++
		fmt.Fprintf(out, "message\t%s", message)
		for _, field := range of.fields[message] {
			fmt.Fprintf(out, "\t%s %d %s %s", field.name, field.number, field.type_(numbers), field.flags)
		}
		fmt.Fprintln(out)
	}
}

// numbers counts the messages, each shape once: most versions of a kind are
// alike.
func (t *table) numbers() map[reflect.Type]int {
	numbers := map[reflect.Type]int{}
	for count := 0; ; {
		next, known := map[reflect.Type]int{}, map[string]int{}
		for _, message := range t.order {
			var shape strings.Builder
			for _, field := range t.fields[message] {
				fmt.Fprintf(&shape, "%s %d %s %s\t", field.name, field.number, field.type_(numbers), field.flags)
			}
			if _, ok := known[shape.String()]; !ok {
				known[shape.String()] = len(known)
			}
			next[message] = known[shape.String()]
		}
		if numbers = next; len(known) == count {
			return numbers
		}
		count = len(known)
	}
}

func (f *field) type_(numbers map[reflect.Type]int) string {
	if f.message == nil {
		return f.kind
	}
	return f.kind + strconv.Itoa(numbers[f.message])
}

// add takes a message in, and all that it holds.
func (t *table) add(message reflect.Type) {
	if _, ok := t.fields[message]; ok {
		return
	}
	t.order = append(t.order, message)
	t.fields[message] = nil
	var fields []field
	for i := range message.NumField() {
		of := message.Field(i)
		if of.Type != reflect.TypeFor[meta.TypeMeta]() {
			fields = append(fields, t.field(message, of))
		}
	}
	t.fields[message] = fields
	t.checkNames(message)
}

func (t *table) field(message reflect.Type, of reflect.StructField) field {
	refuse := func(why string) { panic(fmt.Sprintf("%s.%s: %s", message, of.Name, why)) }
	wire := strings.Split(of.Tag.Get("protobuf"), ",")
	names := strings.Split(of.Tag.Get("json"), ",")
	if len(wire) < 3 || len(names) == 0 {
		refuse("not in both encodings")
	}
	number, err := strconv.Atoi(wire[1])
	check(err)
	told := field{name: names[0], number: number, flags: "-"}
	flag := func(flag string) { told.flags = strings.TrimPrefix(told.flags, "-") + flag }
	isInline := of.Anonymous && told.name == ""
	for _, option := range names[1:] {
		switch option {
		case "inline":
			isInline = true
		case "omitempty", "omitzero":
			// Of a struct, omitempty says nothing; omitzero is asked for by
			// creationTimestamp alone.
			isStruct := of.Type.Kind() == reflect.Struct
			if isStruct && option == "omitzero" && of.Type != reflect.TypeFor[meta.Time]() {
				refuse("omitzero")
			}
			if isStruct == (option == "omitzero") && !strings.Contains(told.flags, "o") {
				flag("o")
			}
		default:
			refuse(option)
		}
	}
	if isInline {
		told.name = "."
		flag("i")
	}
	if told.name == "" || told.name == "-" {
		refuse("no name")
	}
	kind, isSpecial := of.Type, false
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
		flag("p")
	}
	switch {
	case isBytes(kind):
	case kind.Kind() == reflect.Slice && !isMessage(kind):
		kind = kind.Elem()
		flag("l")
	case kind.Kind() == reflect.Map:
		if kind.Key().Kind() != reflect.String {
			refuse("keys")
		}
		kind = kind.Elem()
		flag("m")
	}
	if kind.Kind() == reflect.Pointer {
		refuse("a pointer inside")
	}
	if message == reflect.TypeFor[apps.StatefulSetSpec]() && of.Name == "VolumeClaimTemplates" {
		// kubernetes:pkg/apis/apps/v1/conversion.go sets their kind, always.
		flag("c")
	} else if hasKind(kind) {
		refuse("holds a kind")
	}
	told.kind, isSpecial = special[kind]
	switch {
	case isSpecial:
		if strings.Contains("BOA", told.kind) {
			told.message = reflect.TypeFor[extensions.JSONSchemaProps]()
		}
	case kind.Implements(reflect.TypeFor[json.Marshaler]()) || kind.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		refuse("its JSON is its own")
	case isBytes(kind):
		told.kind = "y"
	case kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.String:
		told.kind = "w"
	case kind.Kind() == reflect.Struct:
		told.message = kind
	default:
		told.kind = scalars[kind.Kind()]
		if told.kind == "" {
			refuse("of a type that is not known here")
		}
	}
	if told.message != nil {
		t.add(told.message)
	}
	return told
}

func hasKind(kind reflect.Type) bool {
	if kind.Kind() != reflect.Struct {
		return false
	}
	held, ok := kind.FieldByName("TypeMeta")
	return ok && held.Type == reflect.TypeFor[meta.TypeMeta]()
}

func isBytes(kind reflect.Type) bool {
	return kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Uint8
}

// isMessage says whether a slice is a message of its own, with its elements in
// field 1.
func isMessage(kind reflect.Type) bool {
	_, ok := reflect.New(kind).Interface().(interface{ Marshal() ([]byte, error) })
	return ok
}

// checkNames makes sure that no name or number is there twice: encoding/json
// has rules for that, and the table has none.
func (t *table) checkNames(message reflect.Type) {
	numbers, names := map[int]bool{}, map[string]bool{}
	for _, field := range t.fields[message] {
		if numbers[field.number] {
			panic(fmt.Sprintf("%s: %d twice", message, field.number))
		}
		numbers[field.number] = true
	}
	for _, name := range t.names(message) {
		if names[name] {
			panic(fmt.Sprintf("%s: %s twice", message, name))
		}
		names[name] = true
	}
}

func (t *table) names(message reflect.Type) []string {
	var names []string
	for _, field := range t.fields[message] {
		if strings.Contains(field.flags, "i") {
			names = append(names, t.names(field.message)...)
		} else {
			names = append(names, field.name)
		}
	}
	return names
}
