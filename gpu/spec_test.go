package gpu

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseWorkersReadsEveryKind(t *testing.T) {
	for setting, c := range map[string]struct {
		m    Machine
		want []string
	}{
		"auto":                {Machine{}, []string{"sim0", "sim1"}},
		"":                    {Machine{Cards: []int{0, 3}, ComfyUI: true}, []string{"gpu0", "gpu3"}},
		"managed:0,2;sim:2":   {Machine{ComfyUI: true}, []string{"gpu0", "gpu2", "sim0", "sim1"}},
		" sim:1 ; sim:2 ":     {Machine{}, []string{"sim0", "sim1", "sim2"}},
		"attached:http://a:1": {Machine{}, []string{"attached0"}},
		"attached:http://a:1/,https://b;attached:http://c": {Machine{}, []string{"attached0", "attached1", "attached2"}},
	} {
		specs, err := ParseWorkers(setting, c.m)
		require.NoError(t, err, setting)
		var names []string
		for _, s := range specs {
			names = append(names, s.Name)
		}
		require.Equal(t, c.want, names, setting)
	}
	specs, err := ParseWorkers("attached:http://a:1/", Machine{})
	require.NoError(t, err)
	require.Equal(t, "http://a:1", specs[0].URL)
}

func TestParseWorkersNamesTheWrongItem(t *testing.T) {
	both := Machine{Cards: []int{0, 1}, ComfyUI: true}
	for setting, c := range map[string]struct {
		m    Machine
		want string
	}{
		"auto":                        {Machine{Cards: []int{0}}, "no ComfyUI directory"},
		"":                            {Machine{ComfyUI: true}, "no NVIDIA card"},
		"sim:0":                       {both, `"sim:0"`},
		"sim:65":                      {both, "1 to 64"},
		"sim":                         {both, "want sim:N"},
		"sim:1;cpu:2":                 {both, `"cpu:2"`},
		"managed:0,x":                 {both, `"x" is no card number`},
		"managed:5":                   {both, "there is no card 5"},
		"managed:0,0":                 {both, "card 0 is named twice"},
		"managed:0;managed:0":         {both, "card 0 is named twice"},
		"managed:0":                   {Machine{}, "need a ComfyUI directory"},
		"attached:host:8188":          {both, "is no address"},
		"attached:http://a,http://a/": {both, "http://a is named twice"},
		"attached:http://a?token=s":   {both, "is no address"},
		"sim:1;auto":                  {both, "auto stands alone"},
		";":                           {both, "names no worker"},
	} {
		_, err := ParseWorkers(setting, c.m)
		require.ErrorContains(t, err, c.want, setting)
	}
}
