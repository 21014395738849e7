package comfy

import (
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
)

func TestTextMessagesBecomeEvents(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want gpu.Event
	}{
		"greeting": {`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":2}},"sid":"x"}}`,
			gpu.Event{Kind: gpu.EventStatus, Remaining: 2}},
		"start": {`{"type":"execution_start","data":{"prompt_id":"p","timestamp":5}}`, gpu.Event{Kind: gpu.EventStart, PromptID: "p"}},
		"cached": {`{"type":"execution_cached","data":{"nodes":["1","2"],"prompt_id":"p","timestamp":5}}`,
			gpu.Event{Kind: gpu.EventCached, PromptID: "p", Nodes: []string{"1", "2"}}},
		"executing": {`{"type":"executing","data":{"node":"2.0.0.1","display_node":"2","prompt_id":"p"}}`,
			gpu.Event{Kind: gpu.EventNode, PromptID: "p", Node: "2"}},
		"executing after a reconnect": {`{"type":"executing","data":{"node":"2"}}`, gpu.Event{Kind: gpu.EventNode, Node: "2"}},
		"end":                         {`{"type":"executing","data":{"node":null,"prompt_id":"p"}}`, gpu.Event{Kind: gpu.EventEnd, PromptID: "p"}},
		"progress": {`{"type":"progress","data":{"value":3,"max":20,"prompt_id":"p","node":"7"}}`,
			gpu.Event{Kind: gpu.EventSteps, PromptID: "p", Node: "7", Value: 3, Max: 20}},
		"progress of Python": {`{"type":"progress","data":{"value":NaN,"max":2.5,"prompt_id":"p","node":"7"}}`,
			gpu.Event{Kind: gpu.EventSteps, PromptID: "p", Node: "7", Max: 2.5}},
		"executed": {`{"type":"executed","data":{"node":"2.0.0.1","display_node":"2","output":null,"prompt_id":"p"}}`,
			gpu.Event{Kind: gpu.EventExecuted, PromptID: "p", Node: "2"}},
		"executed with a file": {`{"type":"executed","data":{"node":"2.0.0.1","display_node":"2","prompt_id":"p",
			"output":{"images":[{"filename":"a_00001_.png","subfolder":"s","type":"output"}],"animated":[false]}}}`,
			gpu.Event{Kind: gpu.EventExecuted, PromptID: "p", Node: "2", Outputs: []gpu.NodeOutput{{Node: "2", Key: "images",
				File: &gpu.FileRef{Filename: "a_00001_.png", Subfolder: "s", Type: "output"}}}}},
		"success": {`{"type":"execution_success","data":{"prompt_id":"p","timestamp":5}}`, gpu.Event{Kind: gpu.EventSuccess, PromptID: "p"}},
		"interrupted": {`{"type":"execution_interrupted","data":{"prompt_id":"p","node_id":"4","node_type":"K","executed":["1"]}}`,
			gpu.Event{Kind: gpu.EventInterrupted, PromptID: "p", Node: "4"}},
		"exception without a time": {`{"type":"execution_error","data":{"prompt_id":"p","node_id":"4","node_type":"K","exception_message":"no\n",
			"exception_type":"ExecutionBlocked","traceback":[],"current_inputs":{"x":[NaN]}}}`,
			gpu.Event{Kind: gpu.EventException, PromptID: "p", Node: "4",
				Exception: &gpu.Exception{NodeID: "4", NodeType: "K", Type: "ExecutionBlocked", Message: "no"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := (&decoder{}).text([]byte(test.in))
			require.True(t, ok)
			require.Equal(t, test.want, got)
		})
	}
}

func TestWhatIsNotKnownIsIgnored(t *testing.T) {
	for _, in := range []string{``, `null`, `[]`, `{"type":"feature_flags","data":{"supports_preview_metadata":true}}`,
		`{"type":"crystools.monitor","data":{"cpu":3}}`, `{"type":"status","data":{}}`, `{"type":"status"}`, `{"type":"executing","data":[]}`,
		`{"type":"progress","data":{"value":"many"}}`, `{"type":"progress_state","data":{"nodes":[]}}`, `{"type":5}`,
		`{"type":"executed","data":4}`, `{"type":"execution_start","data":"x"}`, `{"type":"progress"`} {
		_, ok := (&decoder{}).text([]byte(in))
		require.False(t, ok, in)
	}
}

func TestExpandedNodesCountUnderTheSubmittedOne(t *testing.T) {
	d := &decoder{}
	one := func(in string) gpu.Event {
		t.Helper()
		e, ok := d.text([]byte(in))
		require.True(t, ok, in)
		return e
	}
	one(`{"type":"execution_start","data":{"prompt_id":"p"}}`)
	e := one(`{"type":"progress_state","data":{"prompt_id":"p","nodes":{
		"2.0.0.1":{"value":1,"max":4,"state":"running","node_id":"2.0.0.1","display_node_id":"2"},
		"1":{"value":1.0,"max":1.0,"state":"finished","node_id":"1","display_node_id":"1"}}}}`)
	require.Equal(t, []gpu.NodeState{{Node: "1", Display: "1", State: "finished", Value: 1, Max: 1},
		{Node: "2.0.0.1", Display: "2", State: "running", Value: 1, Max: 4}}, e.States)
	require.Equal(t, "2", one(`{"type":"progress","data":{"value":1,"max":4,"prompt_id":"p","node":"2.0.0.1"}}`).Node)
	require.Equal(t, "2", one(`{"type":"execution_error","data":{"prompt_id":"p","node_id":"2.0.0.1"}}`).Exception.NodeID)
	require.Equal(t, "2", one(`{"type":"executing","data":{"node":"2.0.0.1","prompt_id":"p"}}`).Node)
	// Another prompt may use the same numbers for something else.
	require.Equal(t, "2.0.0.1", one(`{"type":"progress","data":{"value":1,"max":4,"prompt_id":"q","node":"2.0.0.1"}}`).Node)
	one(`{"type":"execution_start","data":{"prompt_id":"q"}}`)
	require.Equal(t, "2.0.0.1", one(`{"type":"progress","data":{"value":1,"max":4,"prompt_id":"q","node":"2.0.0.1"}}`).Node)
}

// bin builds a frame from numbers (as uint32) and texts.
func bin(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case string:
			b = append(b, p...)
		}
	}
	return b
}

func TestBinaryFramesBecomeEvents(t *testing.T) {
	head := `{"node_id":"2.0.0.1","prompt_id":"p","display_node_id":"2","image_type":"image/png"}`
	for name, test := range map[string]struct {
		in   []byte
		want gpu.Event
	}{
		"preview":     {bin(1, 1, "\xff\xd8"), gpu.Event{Kind: gpu.EventPreview, Image: []byte("\xff\xd8"), ImageType: "image/jpeg"}},
		"PNG preview": {bin(1, 2, "PNG"), gpu.Event{Kind: gpu.EventPreview, Image: []byte("PNG"), ImageType: "image/png"}},
		"text":        {bin(3, 2, "17half way"), gpu.Event{Kind: gpu.EventText, Node: "17", Text: "half way"}},
		"empty text":  {bin(3, 0), gpu.Event{Kind: gpu.EventText}},
		"with metadata": {bin(4, len(head), head, "PNG"),
			gpu.Event{Kind: gpu.EventPreview, PromptID: "p", Node: "2", Image: []byte("PNG"), ImageType: "image/png"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := frame(test.in)
			require.True(t, ok)
			require.Equal(t, test.want, got)
		})
	}
}

func TestBrokenFramesAreIgnored(t *testing.T) {
	html := `{"prompt_id":"p","image_type":"text/html"}`
	for name, in := range map[string][]byte{"empty": nil, "short": {0, 0, 1}, "no format": bin(1), "odd format": bin(1, 3, "x"),
		"no image": bin(1, 1), "unencoded": bin(2, 1, "x"), "unknown": bin(9, "x"), "text too short": bin(3, 5, "abc"),
		"huge length": bin(3, -1, "abc"), "no metadata": bin(4), "bad metadata": bin(4, 2, "{xPNG"), "metadata without image": bin(4, 2, "{}"),
		"not an image": bin(4, len(html), html, "<script>")} {
		_, ok := frame(in)
		require.False(t, ok, name)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(bin(1, 1, "x"))
	f.Add(bin(3, 2, "17text"))
	f.Add(bin(4, 2, "{}x"))
	f.Add(bin(4, 24, `{"image_type":"image/png`, `"}x`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, ok := frame(raw)
		if !ok {
			return
		}
		if e.Kind == gpu.EventPreview && (len(e.Image) == 0 || len(e.Image) > len(raw) || e.ImageType != "image/png" && e.ImageType != "image/jpeg") {
			t.Fatalf("bad preview %+v", e)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":2}}}}`))
	f.Add([]byte(`{"type":"progress_state","data":{"prompt_id":"p","nodes":{"1":{"value":NaN,"display_node_id":"2"}}}}`))
	f.Add([]byte(`{"type":"execution_error","data":{"traceback":["a"],"node_id":"1"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, ok := (&decoder{}).text(raw)
		if ok && e.Kind == 0 {
			t.Fatalf("an event without a kind from %q", raw)
		}
		if ok && e.Kind == gpu.EventException && e.Exception == nil {
			t.Fatalf("an exception without one from %q", raw)
		}
	})
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte(`{"queue_running":[[1,"a",{},{"client_id":"c"},["1"]]],"queue_pending":[[0,"b"]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := decodeQueue(raw)
		if err != nil {
			return
		}
		for _, i := range append(q.Running, q.Pending...) {
			if r, p := q.Has(i.PromptID); !r && !p {
				t.Fatalf("%q is lost", i.PromptID)
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"p":{"outputs":{"1":{"images":[{"filename":"a","type":"temp"}],"text":["x"]}},"status":{"status_str":"success","messages":[["execution_start",{"timestamp":1}]]}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := decodeHistory(raw, "p")
		if err != nil || h == nil {
			return
		}
		for _, o := range h.Outputs {
			if o.IsText == (o.File != nil) {
				t.Fatalf("neither file nor text: %+v", o)
			}
			if o.File != nil && (o.File.Filename == "" || o.File.Type == "") {
				t.Fatalf("unusable file %+v", o.File)
			}
		}
	})
}

func FuzzScrub(f *testing.F) {
	f.Add([]byte(`{"a":NaN,"b":[-Infinity,Infinity,-1],"c":"NaN \" Infinity"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean, changed := scrub(raw)
		if json.Valid(raw) && (changed || string(clean) != string(raw)) {
			t.Fatalf("valid JSON was changed: %q", raw)
		}
		again, changed := scrub(clean)
		if changed || string(again) != string(clean) {
			t.Fatalf("a second pass changed %q", clean)
		}
	})
}
