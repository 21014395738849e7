// Package storage keeps the bytes of input media and outputs, one immutable blob an asset, addressed by the asset's
// id. Everything streams: nothing here holds a whole blob in memory.
//
// A blob exists from the moment Place or Commit answered, and from Sync or Commit on it survives a power loss: the file and
// its directory are synced after the rename, and nobody is told of it before. What was not placed is invisible to Open;
// what a crash cut off in the middle is removed by IDs, the orphan sweep.
//
// The database owns the truth about which blobs are wanted. Storage knows no tenants and no jobs.
package storage
