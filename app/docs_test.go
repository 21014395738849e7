package main

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/config"
)

// TestDocsNameEverySettingAndEveryCode keeps the pages for people beside what the program has.
func TestDocsNameEverySettingAndEveryCode(t *testing.T) {
	operating, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	for _, v := range (&config.Settings{}).Values() {
		require.Contains(t, string(operating), "`"+v.Name+"`", "docs/operating.md")
		require.Contains(t, string(operating), "`"+v.Env+"`", "docs/operating.md")
	}
	described, err := os.ReadFile("api/openapi.yaml")
	require.NoError(t, err)
	page, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	codes := regexp.MustCompile(`\{code: (\w+), status: (\d+)`).FindAllSubmatch(described, -1)
	require.Greater(t, len(codes), 30)
	for _, c := range codes {
		require.Contains(t, string(page), "| `"+string(c[1])+"` | "+string(c[2])+" |", "docs/api.md")
	}
}

// TestTheDocsVerifyWebhooksAsTheSpecificationDoes runs the function that docs/api.md gives to be copied, on the example
// that the libraries of Standard Webhooks share.
func TestTheDocsVerifyWebhooksAsTheSpecificationDoes(t *testing.T) {
	page, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	code := regexp.MustCompile("(?s)```python\n(.*?def verify\\(.*?)```").FindSubmatch(page)
	require.NotNil(t, code)
	const check = `
secret, right, wrong = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
def said(signature, at="1614265330", body=b'{"test": 2432232314}'):
    headers = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": at, "webhook-signature": signature}
    return verify(secret, headers, body)
assert said(right) and said(wrong + " v1a,AAAA " + right), "what is right"
assert not (said(wrong) or said("") or said(right, at="1614265331") or said(right, body=b'{"test":2432232314}')), "what is wrong"
`
	out, err := exec.CommandContext(t.Context(), python(t, "hmac"), "-c", string(code[1])+check).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestLinksOfTheDocsLeadSomewhere follows every relative link.
func TestLinksOfTheDocsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for dir, pages := range map[string][]string{"..": {"README.md"}, "../docs": {"architecture.md", "api.md", "operating.md", "security.md", "deployment.md", "life-of-a-job.md"}} {
		for _, page := range pages {
			text, err := os.ReadFile(dir + "/" + page)
			require.NoError(t, err)
			for _, m := range link.FindAllSubmatch(text, -1) {
				_, err := os.Stat(dir + "/" + string(m[1]))
				require.NoError(t, err, "%s links to %s", page, m[1])
			}
		}
	}
}
