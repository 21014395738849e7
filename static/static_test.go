package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVendoredFilesAreUnmodifiedAndListed(t *testing.T) {
	raw, err := files.ReadFile("vendor/manifest.json")
	require.NoError(t, err)
	var manifest struct {
		Files []struct{ Path, Version, Licence, SHA256 string }
	}
	require.NoError(t, json.Unmarshal(raw, &manifest))
	listed := map[string]string{}
	for _, f := range manifest.Files {
		assert.NotEmpty(t, f.Version, f.Path)
		assert.NotEmpty(t, f.Licence, f.Path)
		listed["vendor/"+f.Path] = f.SHA256
	}
	found := 0
	require.NoError(t, fs.WalkDir(files, "vendor", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, "LICENSE") || strings.HasSuffix(name, "manifest.json") {
			return err
		}
		body, err := files.ReadFile(name)
		require.NoError(t, err)
		sum := sha256.Sum256(body)
		assert.Equal(t, listed[name], hex.EncodeToString(sum[:]), name)
		found++
		return nil
	}))
	assert.Equal(t, len(listed), found, "files listed that are not there")
}

func TestEveryAddressInAStyleSheetExists(t *testing.T) {
	ref := regexp.MustCompile(`url\("([^"#]+)"\)`)
	for _, sheet := range []string{"css/tokens.css", "css/base.css", "css/components.css", "css/app.css"} {
		f, ok := Lookup(sheet)
		require.True(t, ok, sheet)
		for _, m := range ref.FindAllStringSubmatch(string(f.Body), -1) {
			_, ok := Lookup("css/" + m[1])
			assert.True(t, ok, "%s names %s", sheet, m[1])
		}
	}
}

func TestAddressesChangeWithTheContents(t *testing.T) {
	one, err := build(fstest.MapFS{"a.css": {Data: []byte("a{}")}})
	require.NoError(t, err)
	two, err := build(fstest.MapFS{"a.css": {Data: []byte("b{}")}})
	require.NoError(t, err)
	assert.NotEqual(t, one.hash, two.hash)
	assert.Equal(t, Root+Hash()+"/css/base.css", URL("css/base.css"))
}

func TestTextIsCompressedAndFontsAreNot(t *testing.T) {
	sheet, _ := Lookup("css/components.css")
	require.NotNil(t, sheet.Gzip)
	r, err := gzip.NewReader(bytes.NewReader(sheet.Gzip))
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, sheet.Body, plain)

	font, ok := Lookup("css/fonts/geist-latin-wght-normal.woff2")
	require.True(t, ok)
	assert.Nil(t, font.Gzip)
	assert.Equal(t, "font/woff2", font.ContentType)
}
