package api

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

func TestDocsPageListsEveryOperationAndCode(t *testing.T) {
	p, err := newPages()
	require.NoError(t, err)
	require.True(t, json.Valid(p.openapi))
	page := string(p.docs)
	var d description
	require.NoError(t, yaml.Unmarshal(openapiYAML, &d))
	ops := d.operations()
	require.Len(t, ops, 15)
	for _, op := range ops {
		require.True(t, strings.Contains(page, "<code>"+op.Path+"</code>"), op.Path)
		for _, param := range op.Parameters {
			require.NotEmpty(t, param.Name, op.Path)
			require.True(t, strings.Contains(page, "<td><code>"+param.Name+"</code></td>"), param.Name)
		}
	}
	for _, c := range slices.Concat(d.Codes, d.Causes) {
		require.True(t, strings.Contains(page, "<code>"+c.Code+"</code></td><td>"), c.Code)
	}
	for _, o := range d.objects() {
		require.NotEmpty(t, o.Fields, o.Name)
	}
	require.False(t, strings.Contains(page, "<script"))
	require.False(t, strings.Contains(page, "src=") || strings.Contains(page, "url("), "the page fetches nothing")
}
