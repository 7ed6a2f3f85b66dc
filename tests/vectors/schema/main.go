// Command schema writes what proxy/src/cache/wire/transcode makes JSON of
// protobuf with, and the objects that it is tested with. From
// tests/go/cluster, whose go.mod it uses:
//
//	go run ../../vectors/schema/*.go table > ../../../proxy/src/cache/wire/transcode/kubernetes.tsv
//	go run ../../vectors/schema/*.go objects [-n OBJECTS] [-seed SEED] > ../../../proxy/src/cache/wire/testdata/objects.tsv
package main

import (
	"bufio"
	"flag"
	"os"
	"sort"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	kubernetes "k8s.io/component-base/version"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/controlplane"
)

func main() {
	arguments := flag.NewFlagSet("schema", flag.ExitOnError)
	objects := arguments.Int("n", 2, "how many objects of each kind and version")
	seed := arguments.Int64("seed", 21, "of the random numbers")
	if len(os.Args) < 2 {
		panic("table or objects?")
	}
	check(arguments.Parse(os.Args[2:]))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	switch os.Args[1] {
	case "table":
		writeTable(out, served())
	case "objects":
		writeObjects(out, served(), *objects, *seed)
	default:
		panic("table or objects?")
	}
}

// kind is one that the API server can list, in a version that it serves.
type kind struct {
	schema.GroupVersionKind
	scheme *runtime.Scheme
	// It is in etcd as JSON, which tells an empty list from none; protobuf
	// does not.
	inJSON bool
}

// served has the kinds that Kubernetes of this version serves, by default or
// when it is told to.
func served() []kind {
	var kinds []kind
	for _, of := range []struct {
		scheme *runtime.Scheme
		inJSON bool
	}{
		{legacyscheme.Scheme, false},
		// kubernetes:pkg/controlplane/apiserver/apiextensions.go and
		// aggregator.go give these a storage codec that writes JSON.
		{apiextensions.Scheme, true},
		{aggregator.Scheme, true},
	} {
		for known := range of.scheme.AllKnownTypes() {
			if known.Version == runtime.APIVersionInternal || !isListed(of.scheme, known) || isRemoved(of.scheme, known) {
				continue
			}
			kinds = append(kinds, kind{known, of.scheme, of.inJSON})
		}
	}
	sort.Slice(kinds, func(a, b int) bool { return kinds[a].String() < kinds[b].String() })
	return kinds
}

func isListed(scheme *runtime.Scheme, kind schema.GroupVersionKind) bool {
	object, err := scheme.New(kind)
	check(err)
	_, hasMetadata := object.(meta.ObjectMetaAccessor)
	return hasMetadata && kind.Group != meta.GroupName && scheme.Recognizes(kind.GroupVersion().WithKind(kind.Kind+"List"))
}

// isRemoved says whether Kubernetes of this version serves the kind no more.
func isRemoved(scheme *runtime.Scheme, kind schema.GroupVersionKind) bool {
	object, err := scheme.New(kind)
	check(err)
	removed, ok := object.(interface{ APILifecycleRemoved() (int, int) })
	if !ok {
		return false
	}
	major, minor := removed.APILifecycleRemoved()
	this := version.MustParse(kubernetes.DefaultKubeBinaryVersion)
	return !this.LessThan(version.MajorMinor(uint(major), uint(minor)))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
