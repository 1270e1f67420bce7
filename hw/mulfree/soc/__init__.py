"""The system on a board: register map, bus bridges, sequencer, top."""
