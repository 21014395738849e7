// Package lift takes large base64 strings out of a JSON document while it is being read, so that a request of several
// hundred megabytes needs a few kilobytes of memory.
//
// No JSON library for Go streams the inside of a string. Lift tracks no more of JSON than strings, brackets and the path
// to the current value. A string at a chosen path is decoded from base64 into a sink and replaced by a short mark; every
// other byte is copied unchanged, white space too, into a bounded rest that encoding/json then judges. So the grammar is
// encoding/json's, and what Lift accepts means the same as it does there:
//
//	{"media":[{"name":"a.png","data":"iVBORw0KGgo…50 MiB…"}]}
//	{"media":[{"name":"a.png","data":"Yw7Qh…:0"}]}            + one Lifted
//
// A mark starts with random bytes chosen anew for each document, so that no client can write one.
package lift
