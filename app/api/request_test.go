package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDecodeIsUnmarshal holds the short way of reading a request against the plain one.
func TestDecodeIsUnmarshal(t *testing.T) {
	for _, body := range []string{
		`{"workflow":{"1":{"class_type":"A","inputs":{}}},"priority":3}`, `{"priority":3, "workflow" : {"1":{}} }`,
		`{"workflow":{"1":1},"workflow":{"2":2}}`, `{"workflow":{"1":1},"WorkFlow":{"2":2}}`, `{"WORKFLOW":{"1":1},"workflow":{"2":2}}`,
		`{"work\u0066low":{"1":1}}`, `{"workflow":null}`, `{"workflow":"text"}`, `{"metadata":{"workflow":{"1":1}}}`, `{}`, `[]`, `null`, ``,
		`{"workflow":{"1":1},"priority":"high"}`, `{"workflow":{"1":1}`, `{"workflow":{"1":tru}}`, `{"workflow":{"1":1},}`, `{"workflow":{"1":1}} {}`,
	} {
		var want request
		wantErr := unmarshal([]byte(body), &want, "")
		got, err := decode([]byte(body))
		require.Equal(t, wantErr, err, "%s", body)
		if err == nil {
			require.Equal(t, want, got, "%s", body)
		}
	}
}
