package comfy

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
)

// history asks a fake engine that has this entry, below the prompt's id.
func history(t *testing.T, entry string) *gpu.History {
	t.Helper()
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /history/" + promptID: says(200, `{"`+promptID+`":`+entry+`}`)})
	h, err := c.History(t.Context(), promptID)
	require.NoError(t, err)
	require.NotNil(t, h)
	return h
}

func file(node, key, name, sub, kind string) gpu.NodeOutput {
	return gpu.NodeOutput{Node: node, Key: key, File: &gpu.FileRef{Filename: name, Subfolder: sub, Type: kind}}
}

func TestASuccessHasItsOutputsInOrder(t *testing.T) {
	h := history(t, `{
		"prompt":[3,"`+promptID+`",{"1":{"class_type":"X","inputs":{"v":NaN}}},{"client_id":"c"},["10"]],
		"outputs":{
			"note":{"text":["last"]},
			"10":{"images":[{"filename":"b_00001_.png","subfolder":"at","type":"output"},{"filename":"b_00002_.png","subfolder":"at","type":"output"}],
				"animated":[false]},
			"2.0.0.10":{"images":[{"filename":"late.png","subfolder":"","type":"temp"}]},
			"2.0.0.9":{"audio":[{"filename":"early.flac","subfolder":null,"type":"temp"}]},
			"9":{"text":["one","",2,null],"files":[{"filename":"t.txt","subfolder":"","type":"output"}],"text_file":"t.txt"},
			"3":{"gifs":[{"filename":"v.mp4","subfolder":"v","type":"output","format":"video/h264-mp4","frame_rate":24.0,"fullpath":"/srv/v.mp4"}]},
			"4":{"result":["mesh.glb",{"camera":1},null],"3d":[{"filename":"mesh.glb","type":"output"}]},
			"5":{"video":{"filename":"single.mp4"},"other":[{"filename":"x","type":"models"},{"filename":""},{"filename":5},[1],"s"]},
			"6":null, "7":["odd"],
			"8":{"images":[{"filename":"b_00001_.png","subfolder":"at","type":"output"}]}},
		"status":{"status_str":"success","completed":true,"messages":[
			["execution_start",{"prompt_id":"p","timestamp":1795427699605}],
			["execution_cached",{"nodes":["1","5"],"prompt_id":"p","timestamp":1795427699606}],
			["execution_success",{"prompt_id":"p","timestamp":1795427701605}]]},
		"meta":{"2.0.0.10":{"node_id":"2.0.0.10","display_node":"2","parent_node":"2","real_node_id":"2"},
			"2.0.0.9":{"node_id":"2.0.0.9","display_node":"2"},"10":{"display_node":"10"}}}`)
	require.True(t, h.Success)
	require.False(t, h.Interrupted)
	require.Nil(t, h.Exception)
	require.Equal(t, []string{"1", "5"}, h.Cached)
	require.Equal(t, time.UnixMilli(1795427699605).UTC(), h.StartedAt)
	require.Equal(t, 2*time.Second, h.EndedAt.Sub(h.StartedAt))
	video := file("3", "gifs", "v.mp4", "v", "output")
	video.File.Format = "video/h264-mp4"
	require.Equal(t, []gpu.NodeOutput{
		file("2", "audio", "early.flac", "", "temp"),
		file("2", "images", "late.png", "", "temp"),
		video,
		file("4", "3d", "mesh.glb", "", "output"),
		file("5", "video", "single.mp4", "", "output"),
		file("8", "images", "b_00001_.png", "at", "output"), // named twice, taken once
		{Node: "9", Key: "text", Text: "one", IsText: true},
		{Node: "9", Key: "text", IsText: true},
		file("9", "files", "t.txt", "", "output"),
		file("10", "images", "b_00002_.png", "at", "output"),
		{Node: "note", Key: "text", Text: "last", IsText: true},
	}, h.Outputs)
}

func TestAnExceptionKeepsWhatWasFinishedBefore(t *testing.T) {
	h := history(t, `{"outputs":{"4":{"images":[{"filename":"a.png","subfolder":"","type":"output"}]}},
		"status":{"status_str":"error","completed":false,"messages":[
			["execution_start",{"timestamp":1000}],
			["execution_error",{"prompt_id":"p","node_id":"2.0.0.1","node_type":"KSampler","executed":["1"],"exception_message":"out of memory\n",
				"exception_type":"torch.OutOfMemoryError","traceback":["  File \"x.py\"\n","boom\n"],"current_inputs":{"x":[Infinity]},"timestamp":3000}]]},
		"meta":{"2.0.0.1":{"display_node":"2"}}}`)
	require.False(t, h.Success)
	require.Equal(t, &gpu.Exception{NodeID: "2", NodeType: "KSampler", Type: "torch.OutOfMemoryError", Message: "out of memory",
		Traceback: []string{`  File "x.py"`, "boom"}}, h.Exception)
	require.Len(t, h.Outputs, 1)
	require.Equal(t, time.UnixMilli(3000).UTC(), h.EndedAt)
}

func TestAnInterruptIsToldByItsMessage(t *testing.T) {
	h := history(t, `{"outputs":{},"status":{"status_str":"error","completed":false,"messages":[["execution_start",{"timestamp":1}],
		"odd",[],["execution_interrupted"],[5,{}],["later_event",{"timestamp":9}],
		["execution_interrupted",{"node_id":"3","timestamp":4}]]}}`)
	require.False(t, h.Success)
	require.True(t, h.Interrupted)
	require.Nil(t, h.Exception)
	require.Equal(t, time.UnixMilli(4).UTC(), h.EndedAt)
}

func TestAnUnknownPromptHasNoHistory(t *testing.T) {
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /history/" + promptID: says(200, `{}`)})
	h, err := c.History(t.Context(), promptID)
	require.NoError(t, err)
	require.Nil(t, h)
}

func TestAHistoryThatTheEngineCannotSendIsAnErrorOfItsOwn(t *testing.T) {
	_, c := newEngine(t, map[string]http.HandlerFunc{
		"GET /history/" + promptID: says(500, "500 Internal Server Error\n\nServer got itself in trouble")})
	_, err := c.History(t.Context(), promptID)
	require.ErrorIs(t, err, ErrHistoryBroken)
	require.NotErrorIs(t, err, gpu.ErrUnreachable, "the prompt has ended, so nobody is to wait for the engine")
	var broken interface{ HistoryBroken() bool }
	require.ErrorAs(t, err, &broken)
	require.True(t, broken.HistoryBroken())

	_, c = newEngine(t, map[string]http.HandlerFunc{"GET /history/" + promptID: says(503, "")})
	_, err = c.History(t.Context(), promptID)
	require.ErrorIs(t, err, gpu.ErrUnreachable, "a proxy in between says nothing about the entry")
	require.NotErrorIs(t, err, ErrHistoryBroken)
}

func TestAnEndlessExceptionIsCut(t *testing.T) {
	long := make([]byte, 200<<10)
	for i := range long {
		long[i] = 'x'
	}
	x := message{Text: string(long), Traceback: []string{"short\n", string(long)}}.exception()
	require.Less(t, len(x.Message), messageLimit+10)
	require.Equal(t, []string{"short"}, x.Traceback)
}

func TestNodesAreOrderedByTheirNumbers(t *testing.T) {
	in := []string{"2", "2.0.0.1", "2.0.0.2", "2.0.0.10", "10", "57:8", "57:10", "a", "b"}
	for i := range in {
		for j := range in {
			got := compareNodes(in[i], in[j])
			require.Equal(t, i < j, got < 0, "%s %s", in[i], in[j])
			require.Equal(t, i == j, got == 0, "%s %s", in[i], in[j])
		}
	}
}
