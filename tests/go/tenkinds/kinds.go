package main

import (
	"context"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Defaults of a controller: no resync.
const resync = 0

// What a program that cares for one tier and one node asks for.
const (
	oneTier = "tier=front"
	oneNode = "spec.nodeName=edge-1"
)

var (
	widgets      = schema.GroupVersionResource{Group: "example.dev", Version: "v1", Resource: "widgets"}
	ovens        = schema.GroupVersionResource{Group: "example.dev", Version: "v1", Resource: "ovens"}
	statefulSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
)

// kind is one running informer.
type kind struct {
	informer cache.SharedIndexInformer
	// Unix milliseconds of the last event that its handler was told.
	changed atomic.Int64
}

// informAll starts the ten informers, by the name of their resource.
func informAll(ctx context.Context, config *rest.Config, namespace string) (map[string]*kind, error) {
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	metaOnly, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	everywhere := informers.NewSharedInformerFactory(typed, resync)
	here := informers.NewSharedInformerFactoryWithOptions(typed, resync, informers.WithNamespace(namespace))
	tier := informers.NewSharedInformerFactoryWithOptions(typed, resync, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = oneTier
	}))
	node := informers.NewSharedInformerFactoryWithOptions(typed, resync, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = oneNode
	}))
	custom := dynamicinformer.NewDynamicSharedInformerFactory(untyped, resync)
	customHere := dynamicinformer.NewFilteredDynamicSharedInformerFactory(untyped, resync, namespace, nil)
	partial := metadatainformer.NewSharedInformerFactory(metaOnly, resync)

	kinds := make(map[string]*kind)
	for resource, informer := range map[string]cache.SharedIndexInformer{
		"configmaps":     everywhere.Core().V1().ConfigMaps().Informer(),
		"nodes":          everywhere.Core().V1().Nodes().Informer(),
		"storageclasses": everywhere.Storage().V1().StorageClasses().Informer(),
		"secrets":        here.Core().V1().Secrets().Informer(),
		"deployments":    here.Apps().V1().Deployments().Informer(),
		"services":       tier.Core().V1().Services().Informer(),
		"pods":           node.Core().V1().Pods().Informer(),
		"ovens":          custom.ForResource(ovens).Informer(),
		"widgets":        customHere.ForResource(widgets).Informer(),
		"statefulsets":   partial.ForResource(statefulSets).Informer(),
	} {
		k := &kind{informer: informer}
		if _, err := informer.AddEventHandler(k.handler()); err != nil {
			return nil, err
		}
		kinds[resource] = k
	}
	for _, factory := range []interface{ Start(<-chan struct{}) }{everywhere, here, tier, node, custom, customHere, partial} {
		factory.Start(ctx.Done())
	}
	return kinds, nil
}

func (k *kind) handler() cache.ResourceEventHandler {
	now := func() { k.changed.Store(time.Now().UnixMilli()) }
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { now() },
		UpdateFunc: func(any, any) { now() },
		DeleteFunc: func(any) { now() },
	}
}
