// Command vectors writes proxy/src/request_info/vectors.tsv: request lines and
// Accept headers put together at random, and what the API server's own code
// makes of them. From tests/go/cluster, whose go.mod it uses:
//
//	go run ../../vectors/main.go [-n LINES] [-seed SEED] > ../../../proxy/src/request_info/vectors.tsv
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
)

func main() {
	lines := flag.Int("n", 600, "how many lines")
	seed := flag.Uint64("seed", 1, "of the random numbers")
	flag.Parse()
	// A query that does not decode is logged there, and wanted here.
	klog.SetLogger(klog.Logger{})
	random := rand.New(rand.NewPCG(*seed, 0))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for range *lines {
		if random.IntN(4) == 0 {
			accept := acceptHeader(random)
			fmt.Fprintf(out, "ACCEPT\t%s\t%s\n", accept, negotiate(accept))
			continue
		}
		method, uri := one(random, methods), path(random)+query(random)
		fmt.Fprintf(out, "%s\t%s\t%s\n", method, uri, requestInfo(method, uri))
	}
}

var factory = &request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

// requestInfo is "unreadable" for what the HTTP server refuses, "error" for
// what the parser does.
func requestInfo(method, uri string) string {
	line := method + " " + uri + " HTTP/1.1\r\nHost: a\r\n\r\n"
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(line)))
	if err != nil {
		return "unreadable"
	}
	info, err := factory.NewRequestInfo(req)
	if err != nil {
		return "error"
	}
	fields, err := json.Marshal([]any{
		info.IsResourceRequest, info.Verb, info.APIPrefix, info.APIGroup, info.APIVersion, info.Namespace, info.Resource,
		info.Subresource, info.Name, info.Parts, info.FieldSelector, info.LabelSelector, info.Path,
	})
	if err != nil {
		panic(err)
	}
	return string(fields)
}

func negotiate(accept string) string {
	options, ok := negotiation.NegotiateMediaTypeOptions(accept, mediaTypes, resourceEndpoint{})
	if !ok {
		return "none"
	}
	told := options.Accepted.MediaTypeSubType
	if options.Convert != nil {
		told += " " + options.Convert.Kind + " " + options.Convert.Version
	}
	return told
}

var mediaTypes = []runtime.SerializerInfo{mediaType("json"), mediaType("yaml"), mediaType("vnd.kubernetes.protobuf")}

func mediaType(subtype string) runtime.SerializerInfo {
	return runtime.SerializerInfo{
		MediaType:        "application/" + subtype,
		MediaTypeType:    "application",
		MediaTypeSubType: subtype,
		StreamSerializer: &runtime.StreamSerializerInfo{},
	}
}

// resourceEndpoint restricts as a built-in resource's endpoint does
// (endpoints/handlers, RequestScope).
type resourceEndpoint struct{}

func (resourceEndpoint) AllowsMediaTypeTransform(_, subtype string, kind *schema.GroupVersionKind) bool {
	if kind == nil {
		return true
	}
	if kind.Group != "meta.k8s.io" || (kind.Version != "v1" && kind.Version != "v1beta1") {
		return false
	}
	switch kind.Kind {
	case "Table":
		return subtype == "json" || subtype == "yaml"
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		return true
	}
	return false
}

func (resourceEndpoint) AllowsServerVersion(version string) bool { return version == "v1" }
func (resourceEndpoint) AllowsStreamSchema(s string) bool        { return s == "watch" }

var (
	methods  = []string{"GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "DELETE", "OPTIONS", "TRACE"}
	prefixes = []string{"api/v1", "apis/apps/v1", "apis/example.com/v1beta1"}
	segments = []string{
		"api", "apis", "v1", "apps", "watch", "proxy", "namespaces", "status", "finalize", "pods", "scale", "log", "a", "%2F", "%20",
		"a%2Fb", "", "%41", "version", "..", ".", "%25", "caf%C3%A9", "a+b", "a:b", "@", "%zz",
	}
	parameters = []string{
		"watch", "watch", "fieldSelector", "fieldSelector", "labelSelector", "limit", "timeoutSeconds", "resourceVersion",
		"allowWatchBookmarks", "sendInitialEvents", "continue", "pretty", "shardSelector", "foo",
	}
	values = []string{
		"1", "0", "true", "false", "FALSE", "", "yes", "no", "%zz", "1;x", "00", "%74rue", "-1", "+5", "99999999999999999999", "1.5",
	}
	// No label selector here fails to parse: whether it does is the cache's business.
	labels = []string{"a=b", "a in (b,c)", "!a", ""}
	fields = []string{
		"metadata.name=b", "metadata.name==b", "metadata.name!=b", "metadata.namespace=a", "spec.nodeName=n", "metadata.name=",
		"metadata.name", "metadata.name=a/b", "metadata.name=%", "metadata.name=..", `metadata.name=b\,c`, `metadata.name=b\`,
		"metadata.name=a=b", `metadata.name=b\=c`, `x=\y`, "", "=b", "!=b", "metadata.name=é", " metadata.name=b",
	}
	ranges = []string{
		"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "*/*", "application/*", "text/*", "*",
		"text/html", "Application/JSON", "json", "a/b/c", "application/", "/json", "", "application / json",
	}
	acceptParameters = []string{
		"", "", "", ";as=Table;v=v1;g=meta.k8s.io", ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", ";q=0.5", ";q=1", ";q=0",
		"; q=0.9", ";q=x", ";q=", ";q=-1", ";q= 0.5", ";Q=0.5", ";stream=watch", ";stream=x", ";as=Table", " ;charset=utf-8",
		";sv=v1", ";sv=v2", ";pretty=1", ";a", ";a=b=c", "; as = Table",
	}
)

func one(random *rand.Rand, of []string) string { return of[random.IntN(len(of))] }

func path(random *rand.Rand) string {
	var parts []string
	if random.IntN(3) == 0 {
		for range random.IntN(7) {
			parts = append(parts, one(random, segments))
		}
	} else {
		parts = append(parts, one(random, prefixes))
		if random.IntN(6) == 0 {
			parts = append(parts, one(random, []string{"watch", "proxy"}))
		}
		if random.IntN(2) == 0 {
			parts = append(parts, "namespaces", one(random, []string{"a", "a", "b-c", "", "namespaces", "status"}))
		}
		for _, part := range []string{"pods", "b", "status", "more"}[:random.IntN(5)] {
			if random.IntN(5) == 0 {
				part = one(random, segments)
			}
			parts = append(parts, part)
		}
	}
	path := "/" + strings.Join(parts, "/")
	if random.IntN(10) == 0 {
		path += "/"
	}
	return path
}

func query(random *rand.Rand) string {
	var pairs []string
	for range random.IntN(4) {
		name := one(random, parameters)
		value := one(random, values)
		switch name {
		case "fieldSelector":
			terms := []string{one(random, fields)}
			for range random.IntN(2) {
				terms = append(terms, one(random, fields))
			}
			value = url.QueryEscape(strings.Join(terms, ","))
		case "labelSelector":
			value = url.QueryEscape(one(random, labels))
		}
		switch random.IntN(20) {
		case 0:
			pairs = append(pairs, name)
		case 1:
			pairs = append(pairs, strings.Replace(name, "a", "%61", 1)+"="+value, "")
		default:
			pairs = append(pairs, name+"="+value)
		}
	}
	if len(pairs) == 0 {
		return ""
	}
	return "?" + strings.Join(pairs, "&")
}

func acceptHeader(random *rand.Rand) string {
	clauses := make([]string, 1+random.IntN(5))
	for i := range clauses {
		clauses[i] = one(random, ranges) + one(random, acceptParameters)
		if random.IntN(3) == 0 {
			clauses[i] += one(random, acceptParameters)
		}
	}
	return strings.Join(clauses, one(random, []string{",", ", "}))
}
