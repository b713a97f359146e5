"""What the pages share. The only part of pvu that knows Streamlit."""
