package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// graphs makes graphs of one kind that differ, so that no engine answers from its cache.
type graphs struct {
	text string // %d is the number of the graph
	next atomic.Int64
}

func (g *graphs) graph() []byte { return g.appendTo(nil) }

func (g *graphs) appendTo(b []byte) []byte {
	before, after, _ := strings.Cut(g.text, "%d")
	b = append(b, before...)
	return append(strconv.AppendInt(b, g.next.Add(1), 10), after...)
}

// request is the body that submits the next graph, in b if there is room.
func (g *graphs) request(b []byte) []byte {
	return append(g.appendTo(append(b[:0], `{"workflow":`...)), '}')
}

// trivialGraphs make and save a picture of one colour.
func trivialGraphs() *graphs {
	return &graphs{text: `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":%d}},
		"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"bench"}}}`}
}

// stepGraphs take so many steps of so many seconds each.
func stepGraphs(steps int, seconds float64) *graphs {
	return &graphs{text: `{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":0}},
		"2":{"class_type":"SimSteps","inputs":{"image":["1",0],"steps":` + fmt.Sprint(steps) + `,"delay":` + fmt.Sprint(seconds) + `,"preview":false,"seed":%d}},
		"3":{"class_type":"PreviewImage","inputs":{"images":["2",0]}}}`}
}

// outputGraphs write one file of a size.
func outputGraphs(size int) *graphs {
	return &graphs{text: `{"1":{"class_type":"SimOutput","inputs":{"kind":"videos","count":1,"bytes":` + fmt.Sprint(size) +
		`,"filename_prefix":"big","seed":%d}}}`}
}

// workflowSize is about what a large video workflow has.
const workflowSize = 60_000

// largeGraphs are of workflowSize: many nodes, texts and links, and one node that takes longer than the bench.
func largeGraphs() *graphs {
	var b bytes.Buffer
	b.WriteString(`{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":%d}},`)
	b.WriteString(`"2":{"class_type":"SimSteps","inputs":{"image":["1",0],"steps":100000,"delay":1,"preview":false,"seed":1}},`)
	b.WriteString(`"3":{"class_type":"PreviewImage","inputs":{"images":["2",0]}}`)
	words := strings.Fields("a red fox walks slowly through fresh snow at dawn while soft light falls between tall dark pines and mist rises")
	for i := 4; b.Len() < workflowSize; i++ {
		var text strings.Builder
		for w := range 12 {
			text.WriteString(words[(i*7+w*w)%len(words)] + " ")
		}
		from := []string{"1", "0"}
		if i > 4 {
			from[0] = fmt.Sprint(i - 1)
		}
		fmt.Fprintf(&b, `,"%d":{"class_type":"ImageScale","inputs":{"image":["%s",0],"upscale_method":"nearest-exact","width":%d,"height":%d,"crop":"disabled"},"_meta":{"title":"%s%d"}}`,
			i, from[0], 16+i%32, 16+i%16, text.String(), i*7919)
	}
	return &graphs{text: b.String() + "}"}
}
