package web

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"comfyfleet/app/server"
	"comfyfleet/models"
	"comfyfleet/views"
)

// call is one submission to show as code.
type call struct {
	base       string
	workflowID string // slug@version; "" for a graph in graphFile
	graphFile  string
	params     string   // JSON object, "" for none
	media      []string // names; each is read from a file of that name
}

// samples is how to run a job again from a program.
func samples(base string, j models.Job, p models.JobPayload) []views.Sample {
	k := call{base: base, graphFile: shortID(j.ID) + "_workflow.json"}
	if j.WorkflowSlug != "" {
		k.workflowID, k.graphFile = j.WorkflowSlug+"@"+strconv.Itoa(j.WorkflowVersion), ""
		var sent struct {
			Params json.RawMessage `json:"params"`
		}
		if len(p.Inputs) > 0 && json.Unmarshal(p.Inputs, &sent) == nil {
			k.params = string(sent.Params)
		}
	}
	for _, m := range p.Media {
		k.media = append(k.media, m.Name)
	}
	return k.samples()
}

func (k call) samples() []views.Sample {
	return []views.Sample{
		{ID: "code-curl", Label: "curl", Code: k.curl()},
		{ID: "code-python", Label: "Python", Code: k.python()},
		{ID: "code-ts", Label: "TypeScript", Code: k.typescript()},
		{ID: "code-go", Label: "Go", Code: k.golang()},
	}
}

// fields are the parts of a multipart form, which all examples send: it takes files as they are.
func (k call) fields() [][2]string {
	var list [][2]string
	if k.workflowID != "" {
		list = append(list, [2]string{"workflow_id", k.workflowID})
	}
	if k.params != "" && k.params != "null" {
		list = append(list, [2]string{"params", compact(k.params)})
	}
	return list
}

func compact(raw string) string {
	var v json.RawMessage
	if json.Unmarshal([]byte(raw), &v) != nil {
		return raw
	}
	b, err := json.Marshal(v) // compacts
	if err != nil {
		return raw
	}
	return string(b)
}

func (k call) curl() string {
	var b strings.Builder
	fmt.Fprintf(&b, "curl %s/v1/jobs \\\n  -H \"Authorization: Bearer $KEY\"", k.base)
	for _, f := range k.fields() {
		fmt.Fprintf(&b, " \\\n  -F %s", shell(f[0]+"="+f[1]))
	}
	if k.graphFile != "" {
		fmt.Fprintf(&b, " \\\n  -F %s", shell("workflow=@"+k.graphFile))
	}
	for _, m := range k.media {
		fmt.Fprintf(&b, " \\\n  -F %s", shell(fmt.Sprintf(`media=@"%s";filename="%s"`, curlQuote(m), curlQuote(m))))
	}
	return b.String()
}

// shell quotes for a POSIX shell.
func shell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// curlQuote escapes within curl's own double quotes.
func curlQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
}

func (k call) python() string {
	var b strings.Builder
	fmt.Fprintf(&b, "import os, time, requests\n\nbase, auth = %s, {\"Authorization\": \"Bearer \" + os.environ[\"KEY\"]}\n", quoted(k.base))
	b.WriteString("form = [\n")
	for _, f := range k.fields() {
		fmt.Fprintf(&b, "    (%s, (None, %s)),\n", quoted(f[0]), quoted(f[1]))
	}
	if k.graphFile != "" {
		fmt.Fprintf(&b, "    (\"workflow\", open(%s, \"rb\")),\n", quoted(k.graphFile))
	}
	for _, m := range k.media {
		fmt.Fprintf(&b, "    (\"media\", (%s, open(%s, \"rb\"))),\n", quoted(m), quoted(m))
	}
	b.WriteString(`]
job = requests.post(base + "/v1/jobs", headers=auth, files=form).json()["job_id"]
while True:
    s = requests.get(f"{base}/v1/jobs/{job}?data=none", headers=auth).json()
    print(s["status"], s["progress"], "%")
    if s["status"] in ("completed", "failed"):
        break
    time.sleep(2)
for out in s["outputs"]:
    open(out["filename"], "wb").write(requests.get(out["url"]).content)
`)
	return b.String()
}

func (k call) typescript() string {
	var b strings.Builder
	b.WriteString("import { openAsBlob } from \"node:fs\"\nimport { writeFile } from \"node:fs/promises\"\n\n")
	fmt.Fprintf(&b, "const base = %s, headers = { Authorization: `Bearer ${process.env.KEY}` }\nconst form = new FormData()\n", quoted(k.base))
	for _, f := range k.fields() {
		fmt.Fprintf(&b, "form.append(%s, %s)\n", quoted(f[0]), quoted(f[1]))
	}
	if k.graphFile != "" {
		fmt.Fprintf(&b, "form.append(\"workflow\", await openAsBlob(%s), \"workflow.json\")\n", quoted(k.graphFile))
	}
	for _, m := range k.media {
		fmt.Fprintf(&b, "form.append(\"media\", await openAsBlob(%s), %s)\n", quoted(m), quoted(m))
	}
	b.WriteString("const { job_id } = await (await fetch(`${base}/v1/jobs`, { method: \"POST\", headers, body: form })).json()\n" +
		"let job\ndo {\n  await new Promise((r) => setTimeout(r, 2000))\n" +
		"  job = await (await fetch(`${base}/v1/jobs/${job_id}?data=none`, { headers })).json()\n" +
		"} while (job.status === \"queued\" || job.status === \"running\")\n" +
		"for (const o of job.outputs) await writeFile(o.filename, new Uint8Array(await (await fetch(o.url)).arrayBuffer()))\n")
	return b.String()
}

func (k call) golang() string {
	var b strings.Builder
	b.WriteString("var body bytes.Buffer\nform := multipart.NewWriter(&body)\n")
	for _, f := range k.fields() {
		fmt.Fprintf(&b, "form.WriteField(%s, %s)\n", quoted(f[0]), quoted(f[1]))
	}
	files := k.media
	if k.graphFile != "" {
		fmt.Fprintf(&b, "graph, _ := os.ReadFile(%s)\nform.WriteField(\"workflow\", string(graph))\n", quoted(k.graphFile))
	}
	for i, m := range files {
		fmt.Fprintf(&b, "part%d, _ := form.CreateFormFile(\"media\", %s)\nfile%d, _ := os.Open(%s)\nio.Copy(part%d, file%d)\n", i, quoted(m), i, quoted(m), i, i)
	}
	fmt.Fprintf(&b, "form.Close()\nreq, _ := http.NewRequest(\"POST\", %s, &body)\nreq.Header.Set(\"Content-Type\", form.FormDataContentType())\n", quoted(k.base+"/v1/jobs"))
	b.WriteString("req.Header.Set(\"Authorization\", \"Bearer \"+os.Getenv(\"KEY\"))\nresp, err := http.DefaultClient.Do(req) // {\"job_id\": …}; then GET /v1/jobs/{job_id}\n")
	return b.String()
}

// quoted is a string literal that Python, TypeScript and Go read alike: JSON's.
func quoted(s string) string {
	b, _ := server.EncodeJSON(s) // a string always encodes
	return string(b)
}
