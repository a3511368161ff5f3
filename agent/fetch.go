package agent

import (
	"context"
	"errors"
	"path/filepath"

	"dsvmpools/agent/source"
	"dsvmpools/shared/protocol"
)

// newFetcher returns what places sources on this node.
func newFetcher(cfg Config) (*source.Fetcher, error) {
	return source.New(source.Config{
		Dir:          filepath.Join(cfg.InstanceDir, "sources"),
		Share:        cfg.Share,
		Packs:        filepath.Join(cfg.InstanceDir, "packs"),
		Credentials:  cfg.Credentials,
		Timeout:      cfg.SourceTimeout,
		CacheSize:    cfg.SourceCache,
		Local:        cfg.SourceLocal,
		AllowPrivate: cfg.AllowPrivate,
		Env:          cfg.GitEnv,
	})
}

// placeSource makes an attempt's directories and places its source in the scratch
// directory. What goes wrong is written into the attempt's stderr.log too, whole. The
// error is a sentence for the job's owner.
func (s *starter) placeSource(ctx context.Context, n int64, w protocol.Assignment) (source.Tree, error) {
	l := s.launcher
	slot, dir, err := l.makeAttemptDir(n, w)
	if err != nil {
		return source.Tree{}, err
	}
	defer dir.close()
	if err := slot.makeScratch(); err != nil {
		return source.Tree{}, err
	}
	tree, err := s.fetcher.Place(ctx, source.Request{
		Source:   *w.Source,
		Dir:      filepath.Join(slot.scratch, "source"),
		As:       slot.as,
		Key:      l.key(n),
		ReadFile: readsFile(w),
	})
	var why *source.Error
	if errors.As(err, &why) && ctx.Err() == nil {
		l.writeNote(dir, w, slot.owner.last(), why.Details)
	}
	return tree, err
}

// hasWrongFile reports whether an attempt that was to read its source's own jobs
// cannot use them: that is the end of the job, not of the start.
func hasWrongFile(err error) bool {
	var why *source.Error
	return errors.As(err, &why) && why.WrongFile
}
