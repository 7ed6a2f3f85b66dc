package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// line is one thing that happened. Fields that do not apply are left out.
type line struct {
	T     int64  `json:"t"`
	Event string `json:"event"`

	Resource  string `json:"resource,omitempty"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid,omitempty"`
	RV        string `json:"rv,omitempty"`
	// The RV that an update replaced: equal to rv after a relist.
	OldRV string `json:"oldRV,omitempty"`
	// A deletion that was noticed by a relist and not told by a watch.
	Tombstone bool `json:"tombstone,omitempty"`
	// Objects, of a list and of a synced informer.
	Items *int `json:"items,omitempty"`

	// Milliseconds that it took.
	Ms *float64 `json:"ms,omitempty"`
	// HTTP status, and where the answer said it came from.
	Code   int    `json:"code,omitempty"`
	Origin string `json:"origin,omitempty"`
	Age    string `json:"age,omitempty"`
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`

	Method string `json:"method,omitempty"`
	URL    string `json:"url,omitempty"`

	Peer *peerInfo `json:"peer,omitempty"`
}

var stdout sync.Mutex

func (l line) print() {
	l.T = time.Now().UnixMilli()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(l); err != nil {
		panic(err)
	}
	stdout.Lock()
	defer stdout.Unlock()
	os.Stdout.Write(text.Bytes())
}

// took sets how long it took, what the answer's headers said, and the error.
func (l line) took(since time.Time, a *answer, err error) line {
	ms := float64(time.Since(since).Microseconds()) / 1000
	l.Ms = &ms
	l.Code, l.Origin, l.Age = a.code, a.origin, a.age
	return l.failed(err)
}

func (l line) failed(err error) line {
	if err == nil {
		return l
	}
	l.Error = err.Error()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		l.Reason = string(status.Status().Reason)
		l.Code = int(status.Status().Code)
	}
	return l
}

func fail(event string, err error) {
	line{Event: event}.failed(err).print()
	os.Exit(1)
}
