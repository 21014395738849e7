package api_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/server"
)

// part is one part of a form: a file when filename is not "-".
type part struct{ name, filename, content string }

func form(t *testing.T, parts ...part) (body *bytes.Buffer, contentType string) {
	t.Helper()
	body = &bytes.Buffer{}
	m := multipart.NewWriter(body)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		disposition := fmt.Sprintf(`form-data; name=%q`, p.name)
		if p.filename != "-" {
			disposition += fmt.Sprintf(`; filename="%s"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.filename))
		}
		h.Set("Content-Disposition", disposition)
		w, err := m.CreatePart(h)
		require.NoError(t, err)
		_, err = io.WriteString(w, p.content)
		require.NoError(t, err)
	}
	require.NoError(t, m.Close())
	return body, m.FormDataContentType()
}

func TestFormsCarryFilesUnderOpaqueNames(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		graph string
		parts []part
	}{
		"file named by its part":   {graph, []part{{"workflow", "-", graph}, {"in.png", "whatever.png", "a picture"}}},
		"file named by itself":     {graph, []part{{"workflow", "graph.json", graph}, {"media", "in.png", "a picture"}}},
		"one part for the request": {graph, []part{{"request", "-", `{"workflow":` + graph + `,"priority":3}`}, {"media", "in.png", "a picture"}}},
		"Windows path": {"", []part{
			{"workflow", "-", strings.Replace(graph, "in.png", `C:\\Users\\me\\x.png`, 1)}, {"media", `C:\Users\me\x.png`, "a picture"}}},
		"fields one by one": {graph, []part{{"workflow", "-", graph}, {"priority", "-", "3"}, {"metadata", "-", `{"a":1}`},
			{"inputs", "-", `[{"node":"2","field":"filename_prefix","value":"x"}]`}, {"media", "in.png", "a picture"}}},
	} {
		t.Run(name, func(t *testing.T) {
			body, kind := form(t, c.parts...)
			a := w.call("acme", http.MethodPost, "/v1/jobs", body, "Content-Type", kind)
			require.Equal(t, http.StatusOK, a.status, string(a.body))
			id := a.object(t)["job_id"].(string)
			v, err := w.jobs.Job(t.Context(), "", id)
			require.NoError(t, err)
			payload, err := w.jobs.Payload(t.Context(), v.TenantID, id)
			require.NoError(t, err)
			require.Len(t, payload.Media, 1)
			require.EqualValues(t, 9, payload.Media[0].Size)
			require.NotEqual(t, "whatever.png", payload.Media[0].Name)
		})
	}
}

func TestFormAndJSONAreTheSameSubmission(t *testing.T) {
	w := newWorld(t)
	a := w.post("acme", `{"workflow":`+graph+`,"media":[{"name":"in.png","data":"YSBwaWN0dXJl"}]}`, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	body, kind := form(t, part{"workflow", "-", graph}, part{"media", "in.png", "a picture"})
	b := w.call("acme", http.MethodPost, "/v1/jobs", body, "Content-Type", kind, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, b.status, string(b.body))
	require.Equal(t, "true", b.header.Get("Idempotency-Replayed"))
}

func TestBadFormsAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	var eleven []part
	for i := range 11 {
		eleven = append(eleven, part{fmt.Sprintf("%d.png", i), "x.png", "x"})
	}
	for name, c := range map[string]struct {
		parts  []part
		status int
		code   string
		field  string
	}{
		"unknown text":    {[]part{{"workflow", "-", graph}, {"colour", "-", "red"}}, 400, "unknown_part", "colour"},
		"field twice":     {[]part{{"workflow", "-", graph}, {"workflow", "-", graph}}, 400, "field_twice", "workflow"},
		"not JSON":        {[]part{{"workflow", "-", "{"}}, 400, "malformed_json", "workflow"},
		"wrong type":      {[]part{{"workflow", "-", graph}, {"priority", "-", `"x"`}}, 400, "wrong_type", "priority"},
		"eleven files":    {eleven, 400, "too_many_media", "media[10]"},
		"empty file":      {[]part{{"workflow", "-", graph}, {"media", "in.png", ""}}, 400, "media_without_data", "media[0]"},
		"media in field":  {[]part{{"workflow", "-", graph}, {"media", "-", `[{"name":"a","data":"AAAA"}]`}}, 400, "malformed_json", "media[0].data"},
		"fields too long": {[]part{{"workflow", "-", graph}, {"metadata", "-", strings.Repeat("x", 4<<20)}}, 413, "body_too_large", ""},
		"nothing":         {nil, 400, "no_workflow", "workflow"},
	} {
		t.Run(name, func(t *testing.T) {
			body, kind := form(t, c.parts...)
			a := w.call("acme", http.MethodPost, "/v1/jobs", body, "Content-Type", kind)
			require.Equal(t, c.status, a.status, string(a.body))
			var p server.Problem
			a.into(t, &p)
			require.Equal(t, c.code, p.Code)
			if c.field != "" {
				require.Equal(t, c.field, p.Errors[0].Field)
			}
		})
	}
	body, kind := form(t, part{"workflow", "-", graph}, part{"media", "in.png", strings.Repeat("x", 1000)})
	a := w.call("acme", http.MethodPost, "/v1/jobs", bytes.NewReader(body.Bytes()[:700]), "Content-Type", kind)
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Equal(t, "malformed_form", a.object(t)["code"])
	large := io.MultiReader(
		strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a\"\r\n\r\n"),
		io.LimitReader(repeat('x'), 50<<20+1), strings.NewReader("\r\n--b--\r\n"))
	a = w.call("acme", http.MethodPost, "/v1/jobs", large, "Content-Type", "multipart/form-data; boundary=b")
	require.Equal(t, "media_too_large", a.object(t)["code"])
	require.Empty(t, w.stored())
}
