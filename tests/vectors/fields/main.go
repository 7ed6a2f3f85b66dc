// Command fields writes proxy/src/cache/wire/testdata/fields.tsv: random
// objects of every kind with fields of its own to be selected by, in JSON and in
// protobuf, and what the API server's own code compares those fields with.
// From tests/go/cluster, whose go.mod it uses:
//
//	go run ../../vectors/fields/main.go [-n OBJECTS] [-seed SEED] > ../../../proxy/src/cache/wire/testdata/fields.tsv
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	encoding "encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	kubefuzzer "k8s.io/kubernetes/pkg/api/testing"
	"k8s.io/kubernetes/pkg/apis/batch"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/controlplane"
	job "k8s.io/kubernetes/pkg/registry/batch/job"
	csr "k8s.io/kubernetes/pkg/registry/certificates/certificates"
	bundle "k8s.io/kubernetes/pkg/registry/certificates/clustertrustbundle/storage"
	podcertificate "k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest/storage"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/resource/resourceslice"
)

// kinds has all versions of each kind that the API server serves, and how it
// reads the fields of such an object.
var kinds = []struct {
	group, kind string
	versions    []string
	attributes  storage.AttrFunc
}{
	{"", "Pod", []string{"v1"}, pod.GetAttrs},
	{"", "Node", []string{"v1"}, node.GetAttrs},
	{"", "Service", []string{"v1"}, service.GetAttrs},
	{"", "Secret", []string{"v1"}, secret.GetAttrs},
	{"", "Namespace", []string{"v1"}, namespace.GetAttrs},
	{"", "ReplicationController", []string{"v1"}, replicationcontroller.GetAttrs},
	{"", "Event", []string{"v1"}, event.GetAttrs},
	{"events.k8s.io", "Event", []string{"v1"}, event.GetAttrs},
	{"batch", "Job", []string{"v1"}, job.GetAttrs},
	{"certificates.k8s.io", "CertificateSigningRequest", []string{"v1"}, csr.GetAttrs},
	{"certificates.k8s.io", "ClusterTrustBundle", []string{"v1alpha1", "v1beta1"}, captured(func(o generic.RESTOptionsGetter) error {
		_, err := bundle.NewREST(o)
		return err
	})},
	{"certificates.k8s.io", "PodCertificateRequest", []string{"v1beta1"}, captured(func(o generic.RESTOptionsGetter) error {
		_, _, err := podcertificate.NewREST(o, nil, nil)
		return err
	})},
	{"resource.k8s.io", "ResourceSlice", []string{"v1", "v1beta1", "v1beta2"}, resourceslice.GetAttrs},
}

func main() {
	objects := flag.Int("n", 3, "how many objects of each kind and version")
	seed := flag.Int64("seed", 22, "of the random numbers")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	source := rand.NewSource(*seed)
	filler := fuzzer.FuzzerFor(kubefuzzer.FuzzerFuncs, source, legacyscheme.Codecs)
	fill := func(object any) {
		filler.Fill(object)
		fillRest(object, rand.New(source))
	}
	for _, kind := range kinds {
		for _, version := range kind.versions {
			for range *objects {
				external := schema.GroupVersionKind{Group: kind.group, Version: version, Kind: kind.kind}
				fmt.Fprintln(out, line(external, stored(external, fill), kind.attributes))
			}
		}
	}
}

// stored is a random object as the API server reads it from etcd: with
// defaults, and in no version.
func stored(kind schema.GroupVersionKind, fill func(any)) runtime.Object {
	scheme, codec := legacyscheme.Scheme, legacyscheme.Codecs.LegacyCodec(kind.GroupVersion())
	object, err := scheme.New(kind)
	check(err)
	internal, err := scheme.UnsafeConvertToVersion(object, runtime.InternalGroupVersioner)
	check(err)
	fill(internal)
	internal.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	bytes, err := runtime.Encode(codec, internal)
	check(err)
	read, err := runtime.Decode(codec, bytes)
	check(err)
	return read
}

// fillRest sets the fields that the filler always leaves empty, or never.
func fillRest(object any, random *rand.Rand) {
	one := func(of ...string) string { return of[random.Intn(len(of))] }
	switch o := object.(type) {
	case *core.Pod:
		o.Status.Phase = core.PodPhase(one("", "Pending", "Running"))
		o.Status.NominatedNodeName = one("", "a")
		o.Status.PodIPs = []core.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}[:random.Intn(3)]
	case *core.Event:
		o.InvolvedObject.UID = types.UID(one("", "8a5f"))
		o.Source.Component = one("", "kubelet")
	case *core.Secret:
		o.Type = core.SecretType(one("Opaque", "kubernetes.io/tls"))
	case *core.Namespace:
		o.Status.Phase = core.NamespacePhase(one("Active", "Terminating"))
	case *core.Node:
		o.Spec.Unschedulable = random.Intn(2) == 0
	case *core.ReplicationController:
		o.Status.Replicas = random.Int31n(2)
	case *batch.Job:
		o.Status.Succeeded = random.Int31n(2)
	}
}

func line(kind schema.GroupVersionKind, object runtime.Object, attributes storage.AttrFunc) string {
	_, values, err := attributes(object)
	check(err)
	compared := map[string]string{}
	for _, field := range fieldNames {
		name, _, err := legacyscheme.Scheme.ConvertFieldLabel(kind, field, "")
		if err == nil && values[name] != "" {
			compared[field] = values[name]
		}
	}
	external, err := legacyscheme.Scheme.ConvertToVersion(object, kind.GroupVersion())
	check(err)
	var text, message bytes.Buffer
	scheme := legacyscheme.Scheme
	check(json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{}).Encode(external, &text))
	check(protobuf.NewSerializer(scheme, scheme).Encode(external, &message))
	fields, err := encoding.Marshal(compared)
	check(err)
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	return strings.Join([]string{
		kind.Group, resource.Resource, strings.TrimSpace(text.String()),
		base64.StdEncoding.EncodeToString(message.Bytes()), string(fields),
	}, "\t")
}

// fieldNames has every field that is read out of an object; its name and
// namespace are not.
var fieldNames = []string{
	"type", "reason", "source", "reportingComponent", "reportingController", "spec.hostNetwork", "spec.nodeName",
	"spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.unschedulable", "spec.clusterIP", "spec.type",
	"spec.signerName", "spec.podName", "spec.driver", "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
	"status.successful", "status.replicas", "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
	"involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
	"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
	"regarding.resourceVersion", "regarding.fieldPath",
}

// captured is the function that a store of the API server, which keeps it to
// itself, would read fields with.
func captured(newStore func(generic.RESTOptionsGetter) error) storage.AttrFunc {
	var attributes storage.AttrFunc
	enough := errors.New("enough")
	options := generic.RESTOptions{
		ResourcePrefix: "/captured",
		StorageConfig:  &storagebackend.ConfigForResource{},
		Decorator: func(
			_ *storagebackend.ConfigForResource, _ string, _ func(runtime.Object) (string, error), _, _ func() runtime.Object,
			read storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers,
		) (storage.Interface, factory.DestroyFunc, error) {
			attributes = read
			return nil, nil, enough
		},
	}
	if err := newStore(options); !errors.Is(err, enough) {
		panic(err)
	}
	return attributes
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
