package main

import (
	"os"
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
