package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand"

	extensionsfuzzer "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/fuzzer"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	kubefuzzer "k8s.io/kubernetes/pkg/api/testing"
)

// writeObjects writes random objects of each kind, from nearly empty to nearly
// full: the protobuf in base64, and the JSON.
func writeObjects(out *bufio.Writer, kinds []kind, objects int, seed int64) {
	source := rand.NewSource(seed)
	for n := range objects {
		for _, kind := range kinds {
			codecs := serializer.NewCodecFactory(kind.scheme)
			functions := fuzzer.MergeFuzzerFuncs(kubefuzzer.FuzzerFuncs, extensionsfuzzer.Funcs)
			fill := fuzzer.FuzzerFor(functions, source, codecs).NilChance(nilChances[n%len(nilChances)]).NumElements(0, 2)
			if kind.inJSON {
				fill.NilChance(0.5).NumElements(1, 1)
			}
			external, err := kind.scheme.ConvertToVersion(stored(kind, codecs, fill.Fill), kind.GroupVersion())
			check(err)
			var text, message bytes.Buffer
			check(asJSON(kind.scheme).Encode(external, &text))
			check(asProtobuf(kind.scheme).Encode(external, &message))
			fmt.Fprintf(out, "%s\t%s", base64.StdEncoding.EncodeToString(message.Bytes()), text.Bytes())
		}
	}
}

// nilChances are of pointers, lists and maps, object by object.
var nilChances = []float64{0.8, 0.95, 0.4, 0.1}

// stored is a random object as the API server reads it from etcd: with
// defaults, and in no version.
func stored(kind kind, codecs serializer.CodecFactory, fill func(any)) runtime.Object {
	object, err := kind.scheme.New(kind.GroupVersionKind)
	check(err)
	internal, err := kind.scheme.UnsafeConvertToVersion(object, runtime.InternalGroupVersioner)
	check(err)
	fill(internal)
	internal.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	encoder := asProtobuf(kind.scheme)
	if kind.inJSON {
		encoder = asJSON(kind.scheme)
	}
	codec := codecs.CodecForVersions(encoder, codecs.UniversalDeserializer(), kind.GroupVersion(), runtime.InternalGroupVersioner)
	bytes, err := runtime.Encode(codec, internal)
	check(err)
	read, err := runtime.Decode(codec, bytes)
	check(err)
	return read
}

func asJSON(scheme *runtime.Scheme) runtime.Encoder {
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
}

func asProtobuf(scheme *runtime.Scheme) runtime.Encoder {
	return protobuf.NewSerializer(scheme, scheme)
}
